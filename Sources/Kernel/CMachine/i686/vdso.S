// The virtual dynamic shared object: a small ELF library that every process finds mapped (AT_SYSINFO_EHDR), with the way
// into the kernel (AT_SYSINFO), clocks that are read without it, and what signal handlers return to.
// SPEC: vdso(7); ELF gABI 4 and 5; LSB 5 symbol versions and .eh_frame. Addresses in the image are offsets from its start.
// The page before it is `struct time_page` of i686.h.

#define TIME_SEQUENCE 4
#define TIME_MULTIPLIER 8
#define TIME_BOOT_TICKS 16
#define TIME_REALTIME 24

.section .rodata
.balign 16
.globl vdso_image, vdso_image_end, vdso_vsyscall, vdso_landing, vdso_sigreturn, vdso_rt_sigreturn

vdso_image:
    .byte 0x7f, 'E', 'L', 'F', 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0
    .short 3, 3                         // ET_DYN, EM_386
    .long 1, vdso_vsyscall - vdso_image, program_headers - vdso_image, 0, 0
    .short 52, 32, 3, 40, 0, 0

program_headers:
    .long 1, 0, 0, 0, vdso_image_end - vdso_image, vdso_image_end - vdso_image, 5, 4096                         // PT_LOAD
    .long 2, dynamic - vdso_image, dynamic - vdso_image, 0, dynamic_end - dynamic, dynamic_end - dynamic, 4, 4  // PT_DYNAMIC
    .long 0x6474e550, frame_header - vdso_image, frame_header - vdso_image, 0                                   // PT_GNU_EH_FRAME
    .long frame_header_end - frame_header, frame_header_end - frame_header, 4, 4

dynamic:
    .long 4, hash - vdso_image          // DT_HASH
    .long 5, strings - vdso_image       // DT_STRTAB
    .long 6, symbols - vdso_image       // DT_SYMTAB
    .long 10, strings_end - strings     // DT_STRSZ
    .long 11, 16                        // DT_SYMENT
    .long 14, soname - strings          // DT_SONAME
    .long 0x6ffffff0, versions - vdso_image             // DT_VERSYM
    .long 0x6ffffffc, version_definitions - vdso_image  // DT_VERDEF
    .long 0x6ffffffd, 3                 // DT_VERDEFNUM
    .long 0, 0
dynamic_end:

// One bucket: every symbol is in its chain.
hash:
    .long 1, 9, 1
    .long 0, 2, 3, 4, 5, 6, 7, 8, 0

.macro SYMBOL name, start, end
    .long \name - strings, \start - vdso_image, \end - \start
    .byte 0x12, 0                       // a global function
    .short 1
.endm
symbols:
    .fill 16, 1, 0
    SYMBOL name_vsyscall, vdso_vsyscall, vdso_vsyscall_end
    SYMBOL name_sigreturn, vdso_sigreturn, vdso_sigreturn_end
    SYMBOL name_rt_sigreturn, vdso_rt_sigreturn, vdso_rt_sigreturn_end
    SYMBOL name_clock_gettime, clock_gettime, clock_gettime_end
    SYMBOL name_clock_gettime64, clock_gettime64, clock_gettime64_end
    SYMBOL name_gettimeofday, gettimeofday, gettimeofday_end
    SYMBOL name_time, time, time_end
    SYMBOL name_clock_getres, clock_getres, clock_getres_end

versions:
    .short 0, 3, 3, 3, 2, 2, 2, 2, 2
.balign 4
version_definitions:
    .short 1, 1, 1, 1                   // the library itself
    .long 0x0fcef091, 20, 28, soname - strings, 0
    .short 1, 0, 2, 1
    .long 0x03ae75f6, 20, 28, name_version_6 - strings, 0
    .short 1, 0, 3, 1
    .long 0x03ae75f5, 20, 0, name_version_5 - strings, 0

strings:
    .byte 0
soname: .asciz "linux-gate.so.1"
name_version_5: .asciz "LINUX_2.5"
name_version_6: .asciz "LINUX_2.6"
name_vsyscall: .asciz "__kernel_vsyscall"
name_sigreturn: .asciz "__kernel_sigreturn"
name_rt_sigreturn: .asciz "__kernel_rt_sigreturn"
name_clock_gettime: .asciz "__vdso_clock_gettime"
name_clock_gettime64: .asciz "__vdso_clock_gettime64"
name_gettimeofday: .asciz "__vdso_gettimeofday"
name_time: .asciz "__vdso_time"
name_clock_getres: .asciz "__vdso_clock_getres"
strings_end:

// How to unwind __kernel_vsyscall: a thread can be cancelled inside it. Unwinders know the sigreturn code by its bytes.
.balign 4
frame_header:
    .byte 1, 0x1b, 0x03, 0x3b           // pointers as 4 signed bytes, counts as 4, a table relative to its start
    .long frames - ., 1
    .long vdso_vsyscall - frame_header, frame_vsyscall - frame_header
frame_header_end:
frames:
    .long frames_common_end - frames_common
frames_common:
    .long 0
    .byte 1, 'z', 'R', 0, 1, 0x7c, 8, 1, 0x1b   // code by 1, data by -4, return address in column 8
    .byte 0x0c, 4, 4, 0x88, 1           // the frame is at esp + 4; eip at frame - 4
    .balign 4
frames_common_end:
frame_vsyscall:
    .long frame_vsyscall_end - . - 4
    .long . - frames
    .long vdso_vsyscall - ., vdso_vsyscall_end - vdso_vsyscall
    .byte 0
    .byte 0x41, 0x0e, 8, 0x81, 2        // push ecx
    .byte 0x41, 0x0e, 12, 0x82, 3       // push edx
    .byte 0x41, 0x0e, 16, 0x85, 4       // push ebp
    .byte 0x40 + vdso_popped - vdso_pushed, 0x0e, 12, 0xc5
    .byte 0x41, 0x0e, 8, 0xc2
    .byte 0x41, 0x0e, 4, 0xc1
    .balign 4
frame_vsyscall_end:
    .long 0

// AT_SYSINFO. SYSENTER keeps no return address: the kernel comes back to the landing; a call that is to be restarted
// to the int two bytes before it. SPEC: Intel SDM 2B SYSENTER.
.balign 16
vdso_vsyscall:
    pushl %ecx
    pushl %edx
    pushl %ebp
vdso_pushed:
    movl %esp, %ebp
    sysenter
    int $0x80
vdso_landing:
    popl %ebp
vdso_popped:
    popl %edx
    popl %ecx
    ret
vdso_vsyscall_end:

.balign 16
vdso_sigreturn:
    popl %eax
    movl $119, %eax
    int $0x80
vdso_sigreturn_end:

.balign 16
vdso_rt_sigreturn:
    movl $173, %eax
    int $0x80
vdso_rt_sigreturn_end:

// edx:eax = nanoseconds since boot, plus the wall clock's offset if bit 0 of ecx is set; clobbers ecx.
.balign 16
now:
    pushl %ebx
    pushl %esi
    pushl %edi
    pushl %ebp
    pushl %ecx
    call 1f
1:  popl %ebx
    andl $~0xfff, %ebx
    subl $0x1000, %ebx
2:  movl TIME_SEQUENCE(%ebx), %ebp
    rdtsc
    subl TIME_BOOT_TICKS(%ebx), %eax
    sbbl TIME_BOOT_TICKS + 4(%ebx), %edx
    movl %edx, %ecx
    mull TIME_MULTIPLIER(%ebx)          // the same two products as Clock.nanoseconds
    shrdl $22, %edx, %eax
    shrl $22, %edx
    movl %eax, %esi
    movl %edx, %edi
    movl %ecx, %eax
    mull TIME_MULTIPLIER(%ebx)
    shldl $10, %eax, %edx
    shll $10, %eax
    addl %esi, %eax
    adcl %edi, %edx
    testb $1, (%esp)
    jz 3f
    addl TIME_REALTIME(%ebx), %eax
    adcl TIME_REALTIME + 4(%ebx), %edx
3:  testl $1, %ebp
    jnz 4f
    cmpl TIME_SEQUENCE(%ebx), %ebp
    jne 4f
    popl %ecx
    popl %ebp
    popl %edi
    popl %esi
    popl %ebx
    ret
4:  pause
    jmp 2b

// ecx = what `now` wants for the clock 4(esp) names, or a jump to `other`.
.macro CHOOSE_CLOCK other
    movl 4(%esp), %eax
    cmpl $8, %eax
    jae \other
    movl $0b11110011, %ecx              // REALTIME, MONOTONIC, MONOTONIC_RAW, both COARSE, BOOTTIME
    btl %eax, %ecx
    jnc \other
    movl $0b00100001, %edx              // of those, REALTIME and its COARSE
    movl %eax, %ecx
    shrl %cl, %edx
    movl %edx, %ecx
.endm

// eax = seconds, edx = nanoseconds; times the quotient cannot hold (after 2106) jump to `other`.
.macro SPLIT other
    movl $1000000000, %ecx
    cmpl %ecx, %edx
    jae \other
    divl %ecx
.endm

.macro CALL_KERNEL number
    pushl %ebx
    movl 8(%esp), %ebx
    movl 12(%esp), %ecx
    movl $\number, %eax
    int $0x80
    popl %ebx
    ret
.endm

// The two clock_gettime: with `struct timespec`, and with the one of 64-bit words.
.macro CLOCK_GETTIME wide, number
    CHOOSE_CLOCK 1f
    call now
    SPLIT 1f
    movl 8(%esp), %ecx
    movl %eax, (%ecx)
    .if \wide
    movl $0, 4(%ecx)
    movl %edx, 8(%ecx)
    movl $0, 12(%ecx)
    .else
    movl %edx, 4(%ecx)
    .endif
    xorl %eax, %eax
    ret
1:  CALL_KERNEL \number
.endm

.balign 16
clock_gettime:
    CLOCK_GETTIME 0, 265
clock_gettime_end:

.balign 16
clock_gettime64:
    CLOCK_GETTIME 1, 403
clock_gettime64_end:

.balign 16
gettimeofday:
    cmpl $0, 8(%esp)                    // who wants a time zone gets the kernel's answer
    jne 1f
    movl $1, %ecx
    call now
    SPLIT 1f
    movl 4(%esp), %ecx
    jecxz 2f
    movl %eax, (%ecx)
    pushl %ecx
    movl %edx, %eax
    xorl %edx, %edx
    movl $1000, %ecx
    divl %ecx
    popl %ecx
    movl %eax, 4(%ecx)
2:  xorl %eax, %eax
    ret
1:  CALL_KERNEL 78
gettimeofday_end:

.balign 16
time:
    movl $1, %ecx
    call now
    SPLIT 1f
    movl 4(%esp), %ecx
    jecxz 2f
    movl %eax, (%ecx)
2:  ret
1:  CALL_KERNEL 13
time_end:

.balign 16
clock_getres:
    CALL_KERNEL 266
clock_getres_end:
vdso_image_end:
