// The C face of the machine layer: structures whose layout assembly shares, and instructions
// that Swift cannot spell. Declarations only, and `static inline` shims.
#ifndef ADROS_CMACHINE_H
#define ADROS_CMACHINE_H
#include <stdint.h>
#include <stddef.h>

#define UNSAFE __attribute__((swift_attr("unsafe")))
#define SHARED __attribute__((swift_attr("unsafe"))) __attribute__((swift_attr("nonisolated(unsafe)")))

#if defined(__i386__)
#include "i686.h"
#endif

#endif
