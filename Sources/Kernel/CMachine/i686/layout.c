// SwiftPM wants one C file in a target that has headers and assembly only.
#include "CMachine.h"
_Static_assert(offsetof(struct percpu, tss) == PERCPU_TSS, "PERCPU_TSS");
_Static_assert(offsetof(struct percpu, double_fault_tss) == PERCPU_DOUBLE_FAULT_TSS, "PERCPU_DOUBLE_FAULT_TSS");
_Static_assert(offsetof(struct percpu, gdt) == PERCPU_GDT, "PERCPU_GDT");
_Static_assert(offsetof(struct percpu, inside_call) == 36 && offsetof(struct percpu, user_mark) == 48, "traps.S");
_Static_assert(offsetof(struct percpu, user_ticks) == 56 && offsetof(struct percpu, identity_count) == 592, "traps.S");
_Static_assert(sizeof(struct percpu) == 768, "boot.S reserves CPU_MAX of these");
_Static_assert(offsetof(struct time_page, sequence) == 4 && offsetof(struct time_page, multiplier) == 8, "vdso.S");
_Static_assert(offsetof(struct time_page, boot_ticks) == 16 && offsetof(struct time_page, realtime_offset) == 24, "vdso.S");
