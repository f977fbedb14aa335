// Assembly only: the unrolled copy loop.
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

