// Interrupt, exception and system-call entry. Every path builds a `struct trap_frame`.
#define KERNEL_DS 0x68
#define PERCPU_SELECTOR 0x90
#define USER_LIMIT 0xc0000000

.section .text
.macro SAVE
    cld
    pushl %fs
    pushl %es
    pushl %ds
    pushal
    movl $KERNEL_DS, %eax
    movl %eax, %ds
    movl %eax, %es
    movl $PERCPU_SELECTOR, %eax
    movl %eax, %fs
    testl $0x44000, 60(%esp)    // NT, which SYSENTER leaves set: IRET would switch tasks. AC, which opens SMAP
    jz 9f
    pushl $2
    popfl
9:
.endm

// What has passed since the way out to user mode is user time (user_time_stop in i686.h); then the thread is inside a
// call. The calls that only answer a number of the caller take less time than two readings of the clock: those run on
// within the user time, and user_time_settle takes them off again at what one in 64 of them was seen to cost.
.macro ENTER_CALL
    movl 28(%esp), %eax
    cmpl $225, %eax
    jae 1f
    btl %eax, identity_calls
    jnc 1f
    incl %fs:592                // percpu.identity_count
    movl $2, %fs:36             // percpu.inside_call
    testl $63, %fs:592
    jnz 3f
    READ_USER_TIME
    rdtsc
    movl %eax, %fs:48
    movl %edx, %fs:52
    movl $3, %fs:36
    jmp 3f
1:  READ_USER_TIME
    movl $1, %fs:36
3:
.endm

.macro READ_USER_TIME
    rdtsc
    subl %fs:48, %eax
    sbbl %fs:52, %edx
    addl %eax, %fs:56
    adcl %edx, %fs:60
.endm

// A bit each for getpid, get[e][ug]id, getppid, getpgrp, their 32-bit kin and gettid.
.align 4
identity_calls:
    .long 1 << 20 | 1 << 24, 1 << 15 | 1 << 17 | 1 << 18, 1 << 0 | 1 << 1, 0, 0, 0
    .long 1 << 7 | 1 << 8 | 1 << 9 | 1 << 10, 1 << 0

// 256 stubs of 16 bytes; vectors with a hardware error code do not push one of their own.
.align 16
.globl trap_stubs
trap_stubs:
vector = 0
.rept 256
    .align 16
    .if vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21
    .else
    pushl $0
    .endif
    pushl $vector
    jmp trap_common
    vector = vector + 1
.endr

trap_common:
    SAVE
    pushl %esp
    call trap_dispatch
    movl %eax, %esp

// A user register frame may hold selectors that do not load: see Traps.swift, which knows these addresses.
.globl trap_return, return_fault_start, return_fault_iret
trap_return:
    popal
return_fault_start:
    popl %ds
    popl %es
    popl %fs
    addl $8, %esp
return_fault_iret:
    iretl

// The user's %gs, whose descriptor he may have changed since it was loaded.
.globl gs_load, gs_load_fault, gs_load_null
gs_load:
gs_load_fault:
    movw 4(%esp), %gs
    ret
gs_load_null:
    xorl %eax, %eax
    movw %ax, %gs
    ret

.globl int80_entry
int80_entry:
    pushl %eax
    pushl $0x80
    SAVE
    ENTER_CALL
    sti
    pushl %esp
    call syscall_entry
    addl $4, %esp
    cli
    jmp trap_return

// SYSENTER: ESP0 comes from the MSR, the user's stack pointer in ebp, its argument 6 at 0(%ebp), and
// execution resumes behind the vDSO's landing pad. SPEC: Intel SDM 2B SYSENTER.
.globl sysenter_entry
sysenter_entry:
    movl 4(%esp), %esp          // the MSR points at the TSS: esp0
    pushl $0x7b
    pushl %ebp
    pushfl
    orl $0x200, (%esp)
sysenter_frame:
    pushl $0x73
    pushl $0                    // eip: below, when ds is the kernel's
    pushl %eax
    pushl $0x80
    SAVE
    ENTER_CALL
    movl sysenter_landing, %eax
    movl %eax, 52(%esp)
    sti
    movl 64(%esp), %ecx         // the user's stack pointer: argument 6 becomes the frame's ebp
    cmpl $USER_LIMIT - 4, %ecx
    ja 1f
    leal 8(%esp), %eax
    pushl %eax
    pushl %ecx
    call user_word
    addl $8, %esp
    testl %eax, %eax
    jnz 1f
    pushl %esp
    call syscall_entry
    addl $4, %esp
    cli
    jmp trap_return
1:  pushl %esp
    call sysenter_fault
    addl $4, %esp
    jmp trap_return

// SYSENTER leaves the user's trap flag set: a program that steps through itself traps once more before the kernel's first
// instruction, on the little stack below the TSS. The kernel goes on without the flag, the program gets it back.
.globl debug_entry
debug_entry:
    cmpl $sysenter_entry, (%esp)
    jne 1f
    testl $3, 4(%esp)
    jnz 1f
    movl $sysenter_stepped, (%esp)
    andl $~0x100, 8(%esp)
    iretl
1:  pushl $0
    pushl $1
    jmp trap_common

sysenter_stepped:
    movl 4(%esp), %esp
    pushl $0x7b
    pushl %ebp
    pushfl
    orl $0x300, (%esp)
    jmp sysenter_frame

.section .data
.globl sysenter_landing
sysenter_landing: .long 0       // where SYSENTER calls resume: the vDSO's landing
.section .text

// A double fault has its own TSS and stack: this is how a kernel stack overflow gets a name.
.globl double_fault_entry
double_fault_entry:
    call double_fault
1:  hlt
    jmp 1b

// void context_switch(uint32_t *save, uint32_t next)
.globl context_switch
context_switch:
    movl 4(%esp), %eax
    movl 8(%esp), %edx
    pushl %ebp
    pushl %ebx
    pushl %esi
    pushl %edi
    movl %esp, (%eax)
    movl %edx, %esp
    popl %edi
    popl %esi
    popl %ebx
    popl %ebp
    ret

// A new kernel thread's first return address.
.globl thread_entry_trampoline
thread_entry_trampoline:
    call scheduler_finish_switch
    call thread_main
    ud2

// Where the trampoline of boot.S sends the other CPUs.
.globl ap_entry
ap_entry:
    call ap_main
    ud2

// A forked child's first return address; its trap frame lies on the stack.
.globl fork_return
fork_return:
    call scheduler_finish_switch
    pushl %esp
    call return_to_user
    addl $4, %esp
    cli
    jmp trap_return
