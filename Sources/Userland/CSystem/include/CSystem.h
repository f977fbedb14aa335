// System calls for programs: Linux/i386's, through int 0x80.
#ifndef ADROS_CSYSTEM_H
#define ADROS_CSYSTEM_H
#include <stdint.h>
#define UNSAFE __attribute__((swift_attr("unsafe")))
#if defined(__i386__)
static inline UNSAFE int32_t system_call(uint32_t n, uint32_t a, uint32_t b, uint32_t c, uint32_t d, uint32_t e) {
    int32_t r;
    __asm__ volatile("int $0x80" : "=a"(r) : "a"(n), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e) : "memory");
    return r;
}
static inline UNSAFE int32_t system_mmap(uint32_t size) {
    int32_t r;
    __asm__ volatile("pushl %%ebp\n\txorl %%ebp, %%ebp\n\tint $0x80\n\tpopl %%ebp"
                     : "=a"(r) : "a"(192), "b"(0), "c"(size), "d"(3), "S"(0x22), "D"(-1) : "memory");
    return r;
}
#endif
// Filled by the start code.
extern uint32_t *program_stack __attribute__((swift_attr("unsafe"))) __attribute__((swift_attr("nonisolated(unsafe)")));
UNSAFE void signal_trampoline(void);
#endif
