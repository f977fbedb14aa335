// Copies between kernel and user memory with fault recovery, and whole pages.
#include "../../CRuntime/include/copy.h"

.section .text
// Arguments are at 16(%esp) and up then.
.macro SAVE_USER
    pushl %esi
    pushl %edi
    pushl %ebx
.endm
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

.globl user_copy, user_zero, user_string, user_exchange, user_word, user_access_start, user_access_end, user_access_fault
// A fault between user_access_start and user_access_end that the page-fault handler cannot resolve
// resumes at user_access_fault. All five routines keep the same three saved registers on the stack.
user_copy:
    SAVE_USER
    movl 16(%esp), %edi
    movl 20(%esp), %esi
    movl 24(%esp), %edx
    xorl %ebx, %ebx             // routine 0
    OPEN_USER
    jmp user_copy_body
user_zero:
    SAVE_USER
    movl 16(%esp), %edi
    movl 20(%esp), %edx
    movl $1, %ebx
    xorl %eax, %eax
    OPEN_USER
    jmp user_zero_body
user_string:
    SAVE_USER
    movl 16(%esp), %edi
    movl 20(%esp), %esi
    movl $2, %ebx
    OPEN_USER
    jmp user_string_body
user_exchange:
    SAVE_USER
    movl 16(%esp), %edi
    movl 20(%esp), %eax
    movl 24(%esp), %ecx
    movl 28(%esp), %esi
    movl $3, %ebx
    OPEN_USER
    jmp user_exchange_body

// user_word(from, to): copies a word; 1 if it cannot be read.
user_word:
    SAVE_USER
    movl 16(%esp), %esi
    movl 20(%esp), %edi
    movl $3, %ebx
    OPEN_USER
    jmp user_word_body

user_access_start:
user_word_body:
    movl (%esi), %eax
    movl %eax, (%edi)
    xorl %eax, %eax
    jmp user_done
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
// Bytes until the source is aligned, then words, which lie in one page: what is behind the string's page is not looked at.
user_string_body:
    xorl %ecx, %ecx
1:  cmpl 24(%esp), %ecx
    jae 5f
    leal (%esi,%ecx), %eax
    testb $3, %al
    jz 3f
2:  movb (%esi,%ecx), %al
    movb %al, (%edi,%ecx)
    testb %al, %al
    jz 5f
    incl %ecx
    jmp 1b
3:  movl 24(%esp), %eax
    subl %ecx, %eax
    cmpl $4, %eax
    jae 6f
    testl %eax, %eax
    jz 5f
    jmp 2b
6:  movl (%esi,%ecx), %eax
    movl %eax, (%edi,%ecx)
    leal -0x01010101(%eax), %edx
    notl %eax
    andl %eax, %edx
    andl $0x80808080, %edx      // its lowest bit is in the first zero byte
    jnz 4f
    addl $4, %ecx
    jmp 3b
4:  bsfl %edx, %edx
    shrl $3, %edx
    addl %edx, %ecx
5:  movl %ecx, %eax
    jmp user_done
user_exchange_body:
    lock cmpxchgl %ecx, (%edi)
    movl %eax, (%esi)
    xorl %eax, %eax
    jmp user_done
// The copy advances in words: finish byte by byte so that the count returned is exact.
user_copy_bytes:
    leal (%edx,%ecx,4), %edx
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
