// Assembly only: the copy of everything.
// Copies edx bytes from esi to edi, upwards. At any moment ecx * 4 + edx bytes are left. `rep movsl` is the fewest
// instructions, and what processors copy fastest; bytes by `rep` are slow where it is emulated.
.macro COPY_BULK
    movl %edx, %ecx
    shrl $2, %ecx
    andl $3, %edx
    rep movsl
    testl %edx, %edx
    jz 2f
1:  movb (%esi), %al
    movb %al, (%edi)
    incl %esi
    incl %edi
    decl %edx
    jnz 1b
2:
.endm
