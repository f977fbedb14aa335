// Copies: between kernel and user memory with fault recovery, whole pages, and the mem* functions
// the compiler calls. Unrolled moves, because `rep` costs one instruction an iteration when emulated.

.section .text
.macro OPEN_USER
    cmpb $0, machine_smap
    je 9f
    .byte 0x0f, 0x01, 0xcb      // stac
9:
.endm
.macro CLOSE_USER
    cmpb $0, machine_smap
    je 9f
    .byte 0x0f, 0x01, 0xca      // clac
9:
.endm

// Copies edx bytes from esi to edi, advancing all three as it goes.
.macro COPY_BULK
    cmpl $32, %edx
    jb 2f
1:  movl (%esi), %eax
    movl 4(%esi), %ecx
    movl %eax, (%edi)
    movl %ecx, 4(%edi)
    movl 8(%esi), %eax
    movl 12(%esi), %ecx
    movl %eax, 8(%edi)
    movl %ecx, 12(%edi)
    movl 16(%esi), %eax
    movl 20(%esi), %ecx
    movl %eax, 16(%edi)
    movl %ecx, 20(%edi)
    movl 24(%esi), %eax
    movl 28(%esi), %ecx
    movl %eax, 24(%edi)
    movl %ecx, 28(%edi)
    addl $32, %esi
    addl $32, %edi
    subl $32, %edx
    cmpl $32, %edx
    jae 1b
2:  cmpl $4, %edx
    jb 4f
3:  movl (%esi), %eax
    movl %eax, (%edi)
    addl $4, %esi
    addl $4, %edi
    subl $4, %edx
    cmpl $4, %edx
    jae 3b
4:  testl %edx, %edx
    jz 6f
5:  movb (%esi), %al
    movb %al, (%edi)
    incl %esi
    incl %edi
    decl %edx
    jnz 5b
6:
.endm

.globl user_copy, user_zero, user_string, user_exchange, user_access_start, user_access_end, user_access_fault
// A fault between user_access_start and user_access_end that the page-fault handler cannot resolve
// resumes at user_access_fault. All four routines keep the same three saved registers on the stack.
user_copy:
    pushl %esi
    pushl %edi
    pushl %ebx
    movl 16(%esp), %edi
    movl 20(%esp), %esi
    movl 24(%esp), %edx
    xorl %ebx, %ebx             // routine 0
    OPEN_USER
    jmp user_copy_body
user_zero:
    pushl %esi
    pushl %edi
    pushl %ebx
    movl 16(%esp), %edi
    movl 20(%esp), %edx
    movl $1, %ebx
    xorl %eax, %eax
    OPEN_USER
    jmp user_zero_body
user_string:
    pushl %esi
    pushl %edi
    pushl %ebx
    movl 16(%esp), %edi
    movl 20(%esp), %esi
    movl 24(%esp), %edx
    movl $2, %ebx
    OPEN_USER
    jmp user_string_body
user_exchange:
    pushl %esi
    pushl %edi
    pushl %ebx
    movl 16(%esp), %edi
    movl 20(%esp), %eax
    movl 24(%esp), %ecx
    movl 28(%esp), %esi
    movl $3, %ebx
    OPEN_USER
    jmp user_exchange_body

user_access_start:
user_copy_body:
    COPY_BULK
    jmp user_done_remaining
user_zero_body:
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
4:  jmp user_done_remaining
user_string_body:
    xorl %ecx, %ecx
1:  cmpl %edx, %ecx
    jae 2f
    movb (%esi,%ecx), %al
    movb %al, (%edi,%ecx)
    testb %al, %al
    jz 2f
    incl %ecx
    jmp 1b
2:  movl %ecx, %eax
    jmp user_done
user_exchange_body:
    lock cmpxchgl %ecx, (%edi)
    movl %eax, (%esi)
    xorl %eax, %eax
    jmp user_done
// The bulk loop advances in steps: finish byte by byte so that the count returned is exact.
user_copy_bytes:
    testl %edx, %edx
    jz user_done_remaining
1:  movb (%esi), %al
    movb %al, (%edi)
    incl %esi
    incl %edi
    decl %edx
    jnz 1b
    jmp user_done_remaining
user_access_end:

user_access_fault:
    cmpl $0, %ebx
    jne 1f
    movl $4, %ebx
    jmp user_copy_bytes
1:  cmpl $2, %ebx
    je 2f
    cmpl $3, %ebx
    jne user_done_remaining
    movl $1, %eax
    jmp user_done
2:  movl $-1, %eax
    jmp user_done
user_done_remaining:
    movl %edx, %eax
user_done:
    CLOSE_USER
    popl %ebx
    popl %edi
    popl %esi
    ret

.globl page_zero, page_copy
page_zero:
    movl 4(%esp), %edx
    xorl %eax, %eax
    movl $64, %ecx
1:  movl %eax, (%edx)
    movl %eax, 4(%edx)
    movl %eax, 8(%edx)
    movl %eax, 12(%edx)
    movl %eax, 16(%edx)
    movl %eax, 20(%edx)
    movl %eax, 24(%edx)
    movl %eax, 28(%edx)
    movl %eax, 32(%edx)
    movl %eax, 36(%edx)
    movl %eax, 40(%edx)
    movl %eax, 44(%edx)
    movl %eax, 48(%edx)
    movl %eax, 52(%edx)
    movl %eax, 56(%edx)
    movl %eax, 60(%edx)
    addl $64, %edx
    decl %ecx
    jnz 1b
    ret
page_copy:
    pushl %esi
    pushl %edi
    movl 12(%esp), %edi
    movl 16(%esp), %esi
    movl $4096, %edx
    COPY_BULK
    popl %edi
    popl %esi
    ret

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
