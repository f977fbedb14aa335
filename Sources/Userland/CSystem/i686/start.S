// Where a program starts: the stack holds argc, argv, envp and auxv.
.section .text
.globl _start
_start:
    xorl %ebp, %ebp
    movl %esp, program_stack
    andl $-16, %esp
    call main
    movl %eax, %ebx
    movl $252, %eax
    int $0x80
    ud2
.globl signal_trampoline
signal_trampoline:
    popl %eax
    movl $119, %eax
    int $0x80
.section .bss
.globl program_stack
program_stack: .skip 4
