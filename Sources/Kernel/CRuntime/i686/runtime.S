// What the compiler calls: mem*, 64-bit division and shifts, the allocator's reserved names. Kernel and
// programs share it.
#include "../include/copy.h"

.section .text
.globl memcpy, memmove, memset, memcmp
memcpy:
    pushl %esi
    pushl %edi
    movl 12(%esp), %edi
    movl 16(%esp), %esi
    movl 20(%esp), %edx
    COPY_BULK
    movl 12(%esp), %eax
    popl %edi
    popl %esi
    ret
memmove:
    movl 4(%esp), %eax
    movl 8(%esp), %ecx
    subl %ecx, %eax
    cmpl 12(%esp), %eax         // unsigned: destination - source >= count copies upwards
    jae memcpy
    pushl %esi
    pushl %edi
    movl 12(%esp), %edi
    movl 16(%esp), %esi
    movl 20(%esp), %edx
    addl %edx, %edi
    addl %edx, %esi
    jmp 3f
1:  movl -4(%esi), %eax
    movl %eax, -4(%edi)
    subl $4, %esi
    subl $4, %edi
    subl $4, %edx
3:  cmpl $4, %edx
    jae 1b
    testl %edx, %edx
    jz 5f
4:  movb -1(%esi), %al
    movb %al, -1(%edi)
    decl %esi
    decl %edi
    decl %edx
    jnz 4b
5:  movl 12(%esp), %eax
    popl %edi
    popl %esi
    ret
memset:
    pushl %edi
    movl 8(%esp), %edi
    movzbl 12(%esp), %eax
    movl 16(%esp), %edx
    imull $0x01010101, %eax, %eax
    cmpl $16, %edx
    jb 2f
1:  movl %eax, (%edi)
    movl %eax, 4(%edi)
    movl %eax, 8(%edi)
    movl %eax, 12(%edi)
    addl $16, %edi
    subl $16, %edx
    cmpl $16, %edx
    jae 1b
2:  testl %edx, %edx
    jz 4f
3:  movb %al, (%edi)
    incl %edi
    decl %edx
    jnz 3b
4:  movl 8(%esp), %eax
    popl %edi
    ret
memcmp:
    pushl %esi
    pushl %edi
    movl 12(%esp), %edi
    movl 16(%esp), %esi
    movl 20(%esp), %edx
    jmp 2f
1:  movl (%edi), %eax
    cmpl %eax, (%esi)
    jne 3f
    addl $4, %edi
    addl $4, %esi
    subl $4, %edx
2:  cmpl $4, %edx
    jae 1b
3:  xorl %eax, %eax
    testl %edx, %edx
    jz 5f
4:  movzbl (%edi), %eax
    movzbl (%esi), %ecx
    subl %ecx, %eax
    jnz 5f
    incl %edi
    incl %esi
    decl %edx
    jnz 4b
5:  popl %edi
    popl %esi
    ret

// 64-bit division, which 32-bit code calls: Knuth's algorithm D for two digits.
// uint64_t __udivmod(n, d) leaves the quotient in edx:eax, the remainder in ecx:ebx.
udivmod:                        // n in edx:eax, d in edi:esi
    testl %edi, %edi
    jnz 2f
    movl %eax, %ebx
    movl %edx, %eax
    xorl %edx, %edx
    divl %esi
    movl %eax, %ecx
    movl %ebx, %eax
    divl %esi
    movl %edx, %ebx
    movl %ecx, %edx
    xorl %ecx, %ecx
    ret
2:  pushl %ebp
    subl $16, %esp
    movl %eax, (%esp)           // n
    movl %edx, 4(%esp)
    bsrl %edi, %ecx
    xorl $31, %ecx              // shift that normalises d
    movl %edi, %ebx
    shldl %cl, %esi, %ebx       // top digit of d
    shrl $1, %edx               // n >> 1, so that the quotient fits
    rcrl $1, %eax
    divl %ebx
    notb %cl                    // undo: q = (q << s) >> 31 = q >> (31 - s)
    andb $31, %cl
    shrl %cl, %eax
    movl %eax, %ebp
    testl %ebp, %ebp
    jz 3f
    decl %ebp                   // q is at most one too large
3:  movl %ebp, %eax             // r = n - q*d
    mull %esi
    movl %eax, 8(%esp)
    movl %edx, 12(%esp)
    movl %ebp, %eax
    imull %edi, %eax
    addl %eax, 12(%esp)
    movl (%esp), %ebx
    movl 4(%esp), %ecx
    subl 8(%esp), %ebx
    sbbl 12(%esp), %ecx
    cmpl %edi, %ecx             // r >= d: one more
    jb 5f
    ja 4f
    cmpl %esi, %ebx
    jb 5f
4:  incl %ebp
    subl %esi, %ebx
    sbbl %edi, %ecx
5:  movl %ebp, %eax
    xorl %edx, %edx
    addl $16, %esp
    popl %ebp
    ret
.macro DIVISION_ENTER
    pushl %ebx
    pushl %esi
    pushl %edi
    movl 16(%esp), %eax
    movl 20(%esp), %edx
    movl 24(%esp), %esi
    movl 28(%esp), %edi
.endm
.macro DIVISION_LEAVE
    popl %edi
    popl %esi
    popl %ebx
    ret
.endm
.macro NEGATE low, high
    negl \low
    adcl $0, \high
    negl \high
.endm
.globl __udivdi3, __umoddi3, __divdi3, __moddi3
__udivdi3:
    DIVISION_ENTER
    call udivmod
    DIVISION_LEAVE
__umoddi3:
    DIVISION_ENTER
    call udivmod
    movl %ebx, %eax
    movl %ecx, %edx
    DIVISION_LEAVE
__divdi3:
    DIVISION_ENTER
    pushl %edx
    xorl %edi, (%esp)           // sign of the quotient
    testl %edx, %edx
    jns 1f
    NEGATE %eax, %edx
1:  testl %edi, %edi
    jns 2f
    NEGATE %esi, %edi
2:  call udivmod
    popl %ecx
    testl %ecx, %ecx
    jns 3f
    NEGATE %eax, %edx
3:  DIVISION_LEAVE
__moddi3:
    DIVISION_ENTER
    pushl %edx                  // sign of the remainder is the dividend's
    testl %edx, %edx
    jns 1f
    NEGATE %eax, %edx
1:  testl %edi, %edi
    jns 2f
    NEGATE %esi, %edi
2:  call udivmod
    movl %ebx, %eax
    movl %ecx, %edx
    popl %ecx
    testl %ecx, %ecx
    jns 3f
    NEGATE %eax, %edx
3:  DIVISION_LEAVE

// Names the Swift compiler reserves; the heap is Swift.
.globl posix_memalign, free
posix_memalign:
    jmp heap_allocate
free:
    jmp heap_free

// 64-bit shifts: value in 4(%esp), count in 12(%esp).
.globl __lshrdi3, __ashldi3, __ashrdi3
__lshrdi3:
    movl 12(%esp), %ecx
    movl 8(%esp), %edx
    movl 4(%esp), %eax
    testb $32, %cl
    jnz 1f
    shrdl %cl, %edx, %eax
    shrl %cl, %edx
    ret
1:  movl %edx, %eax
    shrl %cl, %eax
    xorl %edx, %edx
    ret
__ashrdi3:
    movl 12(%esp), %ecx
    movl 8(%esp), %edx
    movl 4(%esp), %eax
    testb $32, %cl
    jnz 1f
    shrdl %cl, %edx, %eax
    sarl %cl, %edx
    ret
1:  movl %edx, %eax
    sarl %cl, %eax
    sarl $31, %edx
    ret
__ashldi3:
    movl 12(%esp), %ecx
    movl 8(%esp), %edx
    movl 4(%esp), %eax
    testb $32, %cl
    jnz 1f
    shldl %cl, %eax, %edx
    shll %cl, %eax
    ret
1:  movl %eax, %edx
    shll %cl, %edx
    xorl %eax, %eax
    ret
