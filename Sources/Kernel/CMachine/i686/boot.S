// From the boot loader to Swift. Multiboot 1 (QEMU -kernel) and Multiboot 2 (GRUB) both enter at
// `start` in 32-bit protected mode without paging. SPEC: Multiboot 0.6.96 §3.2, Multiboot2 §3.3.
#define PHYS(symbol) ((symbol) - 0xC0000000)

.section .boot, "ax"
.align 4
multiboot1:
    .long 0x1BADB002, 0x00000003, -(0x1BADB002 + 0x00000003)
.align 8
multiboot2:
    .long 0xE85250D6, 0, multiboot2_end - multiboot2, -(0xE85250D6 + 0 + (multiboot2_end - multiboot2))
    // A frame buffer of any size is welcome, but need not be.
    .short 5, 1
    .long 20, 0, 0, 32
    .long 0
    .short 0, 0
    .long 8
multiboot2_end:

.globl start
start:
    cli
    cld
    movl %eax, PHYS(boot_magic)
    movl %ebx, PHYS(boot_info)
    // One page directory of 2 MiB pages maps the first GiB both at 0 and at 3 GiB.
    movl $PHYS(boot_pd), %edi
    movl $0x83, %eax
    movl $512, %ecx
1:  movl %eax, (%edi)
    movl $0, 4(%edi)
    addl $0x200000, %eax
    addl $8, %edi
    loop 1b
    movl $PHYS(boot_pdpt), %edi
    movl $PHYS(boot_pd) + 1, (%edi)
    movl $PHYS(boot_pd) + 1, 24(%edi)
    movl $PHYS(boot_stack_top), %esp
    call paging_on
    movl $high, %eax
    jmp *%eax

// Turns on PAE paging with boot_pdpt, write protection and, where present, NX. Uses eax-edx.
.globl paging_on
paging_on:
    movl %cr4, %eax
    orl $0x20, %eax
    movl %eax, %cr4
    movl $0x80000000, %eax
    cpuid
    cmpl $0x80000001, %eax
    jb 1f
    movl $0x80000001, %eax
    cpuid
    testl $(1 << 20), %edx
    jz 1f
    movl $0xC0000080, %ecx
    rdmsr
    orl $(1 << 11), %eax
    wrmsr
1:  movl $PHYS(boot_pdpt), %eax
    movl %eax, %cr3
    movl %cr0, %eax
    orl $0x80010000, %eax
    movl %eax, %cr0
    ret

.section .text
high:
    movl $boot_stack_top, %esp
    xorl %ebp, %ebp
    call KernelMain_main
1:  cli
    hlt
    jmp 1b

// void enter_on_stack(uint32_t stack, void (*function)(void)): never returns.
.globl enter_on_stack
enter_on_stack:
    movl 8(%esp), %eax
    movl 4(%esp), %esp
    xorl %ebp, %ebp
    call *%eax
1:  cli
    hlt
    jmp 1b

// Where other CPUs start, in real mode, copied below 1 MiB by Swift. The argument block at its end
// gets the stack and the entry. SPEC: Intel SDM 3A §8.4.4.
.section .rodata
.code16
.globl ap_trampoline_start, ap_trampoline_end, ap_trampoline_args
ap_trampoline_start:
    cli
    cld
    movw %cs, %ax
    movw %ax, %ds
    movl $(ap_gdt_pointer - ap_trampoline_start), %ebx
    lgdtl (%ebx)
    movl %cr0, %eax
    orl $1, %eax
    movl %eax, %cr0
    ljmpl $8, $(0x8000 + ap_protected - ap_trampoline_start)
.code32
ap_protected:
    movl $16, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movl $(0x8000 + ap_temporary_stack - ap_trampoline_start), %esp
    movl $paging_on, %eax
    call *%eax
    movl (0x8000 + ap_trampoline_args - ap_trampoline_start), %esp
    movl (0x8004 + ap_trampoline_args - ap_trampoline_start), %eax
    xorl %ebp, %ebp
    call *%eax
1:  hlt
    jmp 1b
.align 8
ap_gdt:
    .quad 0, 0x00CF9A000000FFFF, 0x00CF92000000FFFF
ap_gdt_pointer:
    .short 23
    .long 0x8000 + ap_gdt - ap_trampoline_start
.align 8
    .fill 64, 1, 0
ap_temporary_stack:
ap_trampoline_args:
    .long 0, 0
ap_trampoline_end:

.section .data
.globl boot_magic, boot_info
boot_magic: .long 0
boot_info: .long 0

.section .bss
.align 4096
.globl boot_pd, boot_pdpt, boot_stack_top, machine_cpus
boot_pd: .skip 4096
boot_pdpt: .skip 4096
boot_stack: .skip 16384
boot_stack_top:
.align 64
machine_cpus: .skip 16 * 768
.globl log_ring, machine_smap, boot_arena, inspect_buffer
inspect_buffer: .skip 32768
boot_arena: .skip 16384
log_ring: .skip 32768
machine_smap: .skip 1
