// i686: registers, descriptors, ports and the entry points in i686/*.S.
#ifndef ADROS_CMACHINE_I686_H
#define ADROS_CMACHINE_I686_H

// Selectors are Linux's, so that user-visible values (ptrace, signal frames) agree and SYSENTER's
// fixed distances hold. TLS entries are 22-24.
#define KERNEL_CS 0x60
#define KERNEL_DS 0x68
#define USER_CS 0x73
#define USER_DS 0x7b
#define TSS_SELECTOR 0x80
#define PERCPU_SELECTOR 0x90
#define TLS_FIRST_ENTRY 22
#define DF_TSS_SELECTOR 0xf8

#define CPU_MAX 16
#define PERCPU_GDT 64
#define PERCPU_TSS 352
#define PERCPU_DOUBLE_FAULT_TSS 456

// What the entry stubs push, lowest address first. SPEC: Intel SDM 3A §6.12.
struct trap_frame {
    uint32_t edi, esi, ebp, esp_ignored, ebx, edx, ecx, eax;
    uint32_t ds, es, fs;
    uint32_t vector, error; // for system calls: 0x80 and the original eax
    uint32_t eip, cs, eflags;
    uint32_t esp, ss; // only valid when the trap came from user mode
};

struct tss32 {
    uint32_t link, esp0, ss0, esp1, ss1, esp2, ss2, cr3, eip, eflags, eax, ecx, edx, ebx, esp, ebp, esi, edi;
    uint32_t es, cs, ss, ds, fs, gs, ldt;
    uint16_t trap, iomap;
};

// One a CPU, at %fs:0. The offsets of the first fields are used in i686/*.S.
struct percpu {
    struct percpu *this_cpu;   // 0
    uint32_t id;               // 4
    void *current_thread;      // 8
    uint32_t preempt_count;    // 12
    uint32_t need_resched;     // 16
    uint32_t apic_id;          // 20
    void *idle_thread;         // 24
    uint32_t online;           // 28
    uint32_t active_pdpt;      // 32: physical address of the loaded PDPT
    // 36: whether the running user thread is in the kernel: 1 in a call whose time is measured, 2 in an identity call
    // (ENTER_CALL in traps.S), 3 in one that is measured for the others.
    uint32_t inside_call;
    uint32_t panic_eip, panic_ebp; // 40, 44: where this CPU was when a panic stopped it
    uint64_t user_mark;        // 48: the time stamp counter when user mode was last entered
    uint64_t user_ticks;       // 56: spent in user mode since the running thread was switched to
    uint64_t gdt[32];
    uint32_t entry_stack[8]; // where SYSENTER's stack pointer points at the end of: see debug_entry in traps.S
    struct tss32 tss;
    struct tss32 double_fault_tss;
    uint32_t flush_pending;
    // In checked kernels: the ranks of the spin locks this CPU holds. Entries below `rank_base` belong to what an
    // interrupt handler has interrupted.
    uint32_t rank_count, rank_base;
    uint8_t ranks[20];
    uint32_t identity_count;  // 592: identity calls since boot
    uint32_t identity_booked; // those of them whose cost was taken off the user time
    uint32_t identity_cost;   // what the measured ones took lately, in ticks
    // Frames that the running thread looks at beyond the direct map (FrameWindows.swift).
    uint32_t window_depth, windows[12];
    // Free objects of the heap's smaller sizes, each list through their first words, and how many (Heap.swift).
    void *heap_lists[9];
    uint8_t heap_counts[9];
    uint32_t heap_busy; // this CPU is inside the heap
    uint32_t pad[15]; // whole cache lines: CPUs write only their own
};

// What user mode reads of the time (vdso.S). `sequence` is odd while the kernel writes.
struct time_page {
    uint32_t tick_count;       // 0: hundredths of a second since boot
    uint32_t sequence;         // 4
    uint32_t multiplier, pad;  // 8: nanoseconds << 22 a tick of the time stamp counter
    uint64_t boot_ticks;       // 16: the counter at boot
    int64_t realtime_offset;   // 24: nanoseconds from boot's clock to the wall clock's
};

// The address of a linker or assembly symbol is what counts, never its content.
struct symbol { char byte; };
extern struct symbol machine_cpus SHARED;
extern struct symbol kernel_image_start SHARED, kernel_text_start SHARED, kernel_text_end SHARED;
extern struct symbol kernel_rodata_end SHARED, kernel_image_end SHARED;
extern struct symbol boot_stack_top SHARED, ap_trampoline_start SHARED, ap_trampoline_end SHARED, ap_trampoline_args SHARED;
extern struct symbol trap_stubs SHARED, int80_entry SHARED, sysenter_entry SHARED, debug_entry SHARED, double_fault_entry SHARED;
extern struct symbol vdso_image SHARED, vdso_image_end SHARED, vdso_vsyscall SHARED, vdso_landing SHARED;
extern struct symbol vdso_sigreturn SHARED, vdso_rt_sigreturn SHARED;
extern struct symbol thread_entry_trampoline SHARED, trap_return SHARED, fork_return SHARED;
extern struct symbol user_access_start SHARED, user_access_end SHARED, user_access_fault SHARED;
extern struct symbol return_fault_start SHARED, return_fault_iret SHARED;
extern struct symbol gs_load_fault SHARED, gs_load_null SHARED;
UNSAFE void gs_load(uint32_t selector); // null when the selector does not load
extern struct symbol boot_arena SHARED, ap_entry SHARED;
extern struct symbol boot_pd SHARED, boot_pdpt SHARED;
extern uint8_t machine_smap SHARED;
extern uint32_t sysenter_landing SHARED;
extern uint32_t boot_magic SHARED, boot_info SHARED;
struct log_ring { char bytes[32768]; };
extern struct log_ring log_ring SHARED;
struct inspect_buffer { char bytes[32768]; };
extern struct inspect_buffer inspect_buffer SHARED;

UNSAFE uint32_t user_copy(void *destination, const void *source, uint32_t count); // bytes not copied
UNSAFE uint32_t user_zero(void *destination, uint32_t count);                     // bytes not zeroed
UNSAFE int32_t user_string(char *destination, const char *source, uint32_t limit); // length, limit, or -1
// Compare-exchange on a user word: 0 and *seen = the old value, or 1 for a fault.
UNSAFE uint32_t user_exchange(uint32_t *word, uint32_t expected, uint32_t desired, uint32_t *seen);
UNSAFE void page_zero(void *page);
UNSAFE void page_copy(void *destination, const void *source);
UNSAFE void context_switch(uint32_t *save, uint32_t next);
UNSAFE void enter_on_stack(uint32_t stack, void (*function)(void)) __attribute__((noreturn));

// Implemented in Swift by the layers above (`@c`).
UNSAFE void lock_order_violation(uint8_t held, uint8_t wanted) __attribute__((noreturn)); // Machine: the panic
UNSAFE void preempt_schedule(void);                                        // Threads: switch if allowed
UNSAFE void timer_interrupt(void);                                         // Threads: this CPU's timer fired
UNSAFE void secondary_cpu_main(void);                                      // Threads: become an idle thread
UNSAFE uint32_t user_page_fault(struct trap_frame *frame, uint32_t address); // Processes: 1 when resolved
UNSAFE void user_exception(struct trap_frame *frame);                      // Processes: a signal
UNSAFE void return_to_user(struct trap_frame *frame);                      // Processes: pending work

#define ASM __asm__ volatile
// One instruction is not worth a call, and the optimiser does not see across the languages that it would be.
#define INLINE static inline __attribute__((always_inline))
INLINE UNSAFE void outb(uint16_t p, uint8_t v) { ASM("outb %0, %1" ::"a"(v), "Nd"(p)); }
INLINE UNSAFE void outw(uint16_t p, uint16_t v) { ASM("outw %0, %1" ::"a"(v), "Nd"(p)); }
INLINE UNSAFE void outl(uint16_t p, uint32_t v) { ASM("outl %0, %1" ::"a"(v), "Nd"(p)); }
INLINE UNSAFE uint8_t inb(uint16_t p) { uint8_t v; ASM("inb %1, %0" : "=a"(v) : "Nd"(p)); return v; }
INLINE UNSAFE uint16_t inw(uint16_t p) { uint16_t v; ASM("inw %1, %0" : "=a"(v) : "Nd"(p)); return v; }
INLINE UNSAFE uint32_t inl(uint16_t p) { uint32_t v; ASM("inl %1, %0" : "=a"(v) : "Nd"(p)); return v; }
INLINE UNSAFE void insw(uint16_t p, void *to, uint32_t words) {
    ASM("cld; rep insw" : "+D"(to), "+c"(words) : "d"(p) : "memory");
}
INLINE UNSAFE void outsw(uint16_t p, const void *from, uint32_t words) {
    ASM("cld; rep outsw" : "+S"(from), "+c"(words) : "d"(p) : "memory");
}

// No retain or release of an object moves across it. The optimisers keep loads and stores on their side of a lock's atomic
// operation, but take it for one that counts no references: what a critical section reads would be retained when the lock is
// free already, and the object may be gone by then.
INLINE void ownership_barrier(void) { ASM("" ::: "memory"); }

INLINE UNSAFE void interrupts_enable(void) { ASM("sti" ::: "memory"); }
INLINE UNSAFE void interrupts_disable(void) { ASM("cli" ::: "memory"); }
INLINE UNSAFE uint32_t interrupts_save(void) { uint32_t f; ASM("pushfl; popl %0; cli" : "=r"(f)::"memory"); return f; }
INLINE UNSAFE void interrupts_restore(uint32_t f) { if (f & 0x200) ASM("sti" ::: "memory"); }
INLINE UNSAFE uint32_t flags_read(void) { uint32_t f; ASM("pushfl; popl %0" : "=r"(f)); return f; }
INLINE UNSAFE void wait_for_interrupt(void) { ASM("sti; hlt" ::: "memory"); }
INLINE UNSAFE void halt_forever(void) { for (;;) ASM("cli; hlt"); }
INLINE void cpu_relax(void) { ASM("pause"); }

INLINE UNSAFE uint64_t tsc_read(void) { uint32_t a, d; ASM("rdtsc" : "=a"(a), "=d"(d)); return (uint64_t)d << 32 | a; }
INLINE UNSAFE uint32_t hardware_random(void) {
    uint32_t v = 0;
    ASM("1: rdrand %0; jnc 1b" : "=r"(v)::"cc");
    return v;
}
INLINE UNSAFE uint64_t msr_read(uint32_t r) { uint32_t a, d; ASM("rdmsr" : "=a"(a), "=d"(d) : "c"(r)); return (uint64_t)d << 32 | a; }
INLINE UNSAFE void msr_write(uint32_t r, uint64_t v) { ASM("wrmsr" ::"c"(r), "a"((uint32_t)v), "d"((uint32_t)(v >> 32))); }
struct cpuid_result { uint32_t eax, ebx, ecx, edx; };
INLINE UNSAFE struct cpuid_result cpuid(uint32_t leaf, uint32_t sub) {
    struct cpuid_result r;
    ASM("cpuid" : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx) : "a"(leaf), "c"(sub));
    return r;
}
INLINE UNSAFE uint32_t cr0_read(void) { uint32_t v; ASM("movl %%cr0, %0" : "=r"(v)); return v; }
INLINE UNSAFE void cr0_write(uint32_t v) { ASM("movl %0, %%cr0" ::"r"(v)); }
INLINE UNSAFE uint32_t cr2_read(void) { uint32_t v; ASM("movl %%cr2, %0" : "=r"(v)); return v; }
INLINE UNSAFE uint32_t cr3_read(void) { uint32_t v; ASM("movl %%cr3, %0" : "=r"(v)); return v; }
INLINE UNSAFE void cr3_write(uint32_t v) { ASM("movl %0, %%cr3" ::"r"(v) : "memory"); }
INLINE UNSAFE uint32_t cr4_read(void) { uint32_t v; ASM("movl %%cr4, %0" : "=r"(v)); return v; }
INLINE UNSAFE void cr4_write(uint32_t v) { ASM("movl %0, %%cr4" ::"r"(v)); }
INLINE UNSAFE void tlb_invalidate(uint32_t a) { ASM("invlpg (%0)" ::"r"(a) : "memory"); }
// `states` is what XSAVE keeps; 0 where there is no XSAVE.
INLINE UNSAFE void fpu_save(void *area, uint32_t states) {
    if (states)
        ASM("xsave (%0)" ::"r"(area), "a"(states), "d"(0) : "memory");
    else
        ASM("fxsave (%0)" ::"r"(area) : "memory");
}
INLINE UNSAFE void fpu_restore(const void *area, uint32_t states) {
    if (states)
        ASM("xrstor (%0)" ::"r"(area), "a"(states), "d"(0) : "memory");
    else
        ASM("fxrstor (%0)" ::"r"(area) : "memory");
}
INLINE UNSAFE void xcr0_write(uint32_t v) { ASM("xsetbv" ::"a"(v), "d"(0), "c"(0)); }
INLINE UNSAFE uint16_t gs_read(void) { uint16_t s; ASM("movw %%gs, %0" : "=r"(s)); return s; }
// The caller's frame, which must have one then: a backtrace starts there.
INLINE UNSAFE uint32_t frame_address(void) { return (uint32_t)(uintptr_t)__builtin_frame_address(0); }
struct __attribute__((packed)) table_pointer { uint16_t limit; uint32_t base; };
INLINE UNSAFE void idt_load(const void *base, uint16_t limit) {
    struct table_pointer p = {limit, (uint32_t)(uintptr_t)base};
    ASM("lidt %0" ::"m"(p));
}
// Loads the GDT, the task register and every segment register of this CPU.
INLINE UNSAFE void segments_load(struct percpu *cpu) {
    struct table_pointer p = {sizeof cpu->gdt - 1, (uint32_t)(uintptr_t)cpu->gdt};
    ASM("lgdt %0\n\tljmp %1, $1f\n1:\tmovl %2, %%eax\n\tmovl %%eax, %%ds\n\tmovl %%eax, %%es\n\tmovl %%eax, %%ss\n\t"
        "movl %3, %%eax\n\tmovl %%eax, %%fs\n\txorl %%eax, %%eax\n\tmovl %%eax, %%gs\n\tmovw %4, %%ax\n\tltr %%ax"
        ::"m"(p), "i"(KERNEL_CS), "i"(KERNEL_DS), "i"(PERCPU_SELECTOR), "i"(TSS_SELECTOR) : "eax", "memory");
}

// Per-CPU fields through %fs: one instruction, so right even if the thread is about to migrate.
#define PERCPU_READ(offset, out) __asm__ volatile("movl %%fs:%c1, %0" : "=r"(out) : "i"(offset))
INLINE uint32_t percpu_id(void) { uint32_t v; PERCPU_READ(4, v); return v; }
INLINE UNSAFE void *percpu_thread(void) { void *v; PERCPU_READ(8, v); return v; }
INLINE UNSAFE void percpu_set_thread(void *t) { ASM("movl %0, %%fs:8" ::"r"(t) : "memory"); }
INLINE UNSAFE void preempt_disable(void) { ASM("incl %%fs:12" ::: "memory", "cc"); }
INLINE UNSAFE void preempt_enable_quiet(void) { ASM("decl %%fs:12" ::: "memory", "cc"); }
INLINE uint32_t preempt_count(void) { uint32_t v; PERCPU_READ(12, v); return v; }
INLINE uint32_t percpu_need_resched(void) { uint32_t v; PERCPU_READ(16, v); return v; }
INLINE UNSAFE void percpu_set_need_resched(uint32_t v) { ASM("movl %0, %%fs:16" ::"r"(v) : "memory"); }
// Time in user mode: entry adds what has passed since the way out. Interrupts are off in all of these. traps.S has the
// entry's twin for system calls.
INLINE UNSAFE void user_time_stop(void) {
    ASM("rdtsc\n\tsubl %%fs:48, %%eax\n\tsbbl %%fs:52, %%edx\n\taddl %%eax, %%fs:56\n\tadcl %%edx, %%fs:60" ::: "eax", "edx", "cc", "memory");
}
INLINE UNSAFE void user_time_start(void) {
    ASM("rdtsc\n\tmovl %%eax, %%fs:48\n\tmovl %%edx, %%fs:52" ::: "eax", "edx", "memory");
}
INLINE uint32_t percpu_inside_call(void) { uint32_t v; PERCPU_READ(36, v); return v; }
INLINE UNSAFE void percpu_set_inside_call(uint32_t v) { ASM("movl %0, %%fs:36" ::"r"(v) : "memory"); }
INLINE UNSAFE struct percpu *percpu_self(void) { struct percpu *v; PERCPU_READ(0, v); return v; }
// This CPU's free objects of one size; interrupts are off. Null when there is none.
INLINE UNSAFE void *heap_cache_pop(uint32_t bin) {
    struct percpu *cpu = percpu_self();
    void *object = cpu->heap_lists[bin];
    if (!object) return object;
    cpu->heap_lists[bin] = *(void **)object;
    cpu->heap_counts[bin]--;
    return object;
}
// Answers how many there are then.
INLINE UNSAFE uint32_t heap_cache_push(uint32_t bin, void *object) {
    struct percpu *cpu = percpu_self();
    *(void **)object = cpu->heap_lists[bin];
    cpu->heap_lists[bin] = object;
    return ++cpu->heap_counts[bin];
}
// An identity call that turns out to do more (a signal, a switch) is inside the kernel from here on.
INLINE UNSAFE void user_time_settle(void) {
    if (percpu_inside_call() == 2) user_time_stop();
    if (percpu_inside_call() != 0) percpu_set_inside_call(1);
}
// The way out of a call or a trap.
INLINE UNSAFE void user_time_resume(void) {
    uint32_t inside = percpu_inside_call();
    percpu_set_inside_call(0);
    if (inside == 2) return;
    if (inside == 3) {
        struct percpu *cpu = percpu_self();
        uint64_t cost = tsc_read() - cpu->user_mark, known = cpu->identity_cost;
        if (known == 0) known = cost;
        if (cost > known * 4) cost = known * 4; // an interrupt came in between
        cpu->identity_cost = (uint32_t)((known * 7 + cost) / 8);
    }
    user_time_start();
}

// Memory-mapped registers: the compiler may neither merge nor drop these.
INLINE UNSAFE uint8_t mmio_read8(uint32_t a) { return *(volatile uint8_t *)(uintptr_t)a; }
INLINE UNSAFE uint16_t mmio_read16(uint32_t a) { return *(volatile uint16_t *)(uintptr_t)a; }
INLINE UNSAFE uint32_t mmio_read32(uint32_t a) { return *(volatile uint32_t *)(uintptr_t)a; }
INLINE UNSAFE void mmio_write8(uint32_t a, uint8_t v) { *(volatile uint8_t *)(uintptr_t)a = v; }
INLINE UNSAFE void mmio_write16(uint32_t a, uint16_t v) { *(volatile uint16_t *)(uintptr_t)a = v; }
INLINE UNSAFE void mmio_write32(uint32_t a, uint32_t v) { *(volatile uint32_t *)(uintptr_t)a = v; }
INLINE UNSAFE void memory_barrier(void) { ASM("lock; addl $0, (%%esp)" ::: "memory", "cc"); }
// Page-table entries are 64 bits wide under PAE; the present half must be written last.
INLINE UNSAFE void pte_write(uint32_t a, uint64_t v) {
    volatile uint32_t *e = (volatile uint32_t *)(uintptr_t)a;
    e[0] = 0;
    e[1] = (uint32_t)(v >> 32);
    e[0] = (uint32_t)v;
}
INLINE UNSAFE uint64_t pte_read(uint32_t a) {
    volatile uint32_t *e = (volatile uint32_t *)(uintptr_t)a;
    return (uint64_t)e[1] << 32 | e[0];
}
// Adds and returns the new value.
INLINE UNSAFE uint32_t atomic_add(uint32_t *word, uint32_t delta) {
    return __atomic_add_fetch(word, delta, __ATOMIC_ACQ_REL);
}
INLINE UNSAFE uint32_t atomic_load(const uint32_t *word) { return __atomic_load_n(word, __ATOMIC_ACQUIRE); }
INLINE UNSAFE void atomic_store(uint32_t *word, uint32_t v) { __atomic_store_n(word, v, __ATOMIC_SEQ_CST); }
// Quotient and remainder of a 64-bit number by a 32-bit one whose quotient fits 32 bits: one instruction instead of a library call.
struct division { uint32_t quotient, remainder; };
INLINE struct division divide_narrow(uint64_t number, uint32_t divisor) {
    struct division d;
    __asm__("divl %4" : "=a"(d.quotient), "=d"(d.remainder) : "a"((uint32_t)number), "d"((uint32_t)(number >> 32)), "rm"(divisor));
    return d;
}
#undef ASM
#undef INLINE
#endif
