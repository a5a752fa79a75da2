/* The vDSO of arm64. Mirrors arch/arm64/kernel/vdso/vgettimeofday.c and sigreturn.S. */

#include "../../vdso.h"

enum { NR_CLOCK_GETTIME = 113, NR_CLOCK_GETRES = 114, NR_GETTIMEOFDAY = 169 };

static u64 read_counter(void)
{
	u64 value;

	__asm__ volatile("mrs %0, cntvct_el0" : "=r"(value) : : "memory");
	return value;
}

static long system_call(long nr, long first, long second, long third)
{
	register long x8 __asm__("x8") = nr;
	register long x0 __asm__("x0") = first;
	register long x1 __asm__("x1") = second;
	register long x2 __asm__("x2") = third;

	__asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2) : "memory");
	return x0;
}

int __kernel_clock_gettime(int clock, struct timespec *ts)
{
	return do_clock_gettime(NR_CLOCK_GETTIME, clock, ts);
}

int __kernel_gettimeofday(struct timeval *tv, struct timezone *tz)
{
	return do_gettimeofday(NR_GETTIMEOFDAY, tv, tz);
}

int __kernel_clock_getres(int clock, struct timespec *res)
{
	return (int)system_call(NR_CLOCK_GETRES, clock, (long)res, 0);
}

/* Where a signal handler returns to. Unwinders know these two instructions by sight and then read the signal frame; no
 * description for them could say where the program counter is. As they look for the caller at the instruction before the
 * return address, there is one that belongs to no function. */
__asm__(".text\n"
	".balign 16\n"
	"	nop\n"
	".globl __kernel_rt_sigreturn\n"
	".type __kernel_rt_sigreturn, %function\n"
	"__kernel_rt_sigreturn:\n"
	"	mov	x8, #139\n"
	"	svc	#0\n"
	".size __kernel_rt_sigreturn, . - __kernel_rt_sigreturn\n");
