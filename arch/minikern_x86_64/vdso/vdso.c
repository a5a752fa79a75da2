/* The vDSO of x86-64. Mirrors arch/x86/entry/vdso/vclock_gettime.c and vgetcpu.c. */

#include "../../vdso.h"

enum { NR_GETTIMEOFDAY = 96, NR_TIME = 201, NR_CLOCK_GETTIME = 228, NR_CLOCK_GETRES = 229 };

static u64 read_counter(void)
{
	u32 low, high;

	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high) : : "memory");
	return (u64)high << 32 | low;
}

static long system_call(long nr, long first, long second, long third)
{
	long result;

	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "0"(nr), "D"(first), "S"(second), "d"(third)
			 : "rcx", "r11", "memory");
	return result;
}

int __vdso_clock_gettime(int clock, struct timespec *ts)
{
	return do_clock_gettime(NR_CLOCK_GETTIME, clock, ts);
}

int __vdso_gettimeofday(struct timeval *tv, struct timezone *tz)
{
	return do_gettimeofday(NR_GETTIMEOFDAY, tv, tz);
}

s64 __vdso_time(s64 *t)
{
	u64 ns = clock_ns(1);

	if (!ns)
		return system_call(NR_TIME, (long)t, 0, 0);
	s64 seconds = (s64)(ns / NSEC_PER_SEC);
	if (t)
		*t = seconds;
	return seconds;
}

int __vdso_clock_getres(int clock, struct timespec *res)
{
	return (int)system_call(NR_CLOCK_GETRES, clock, (long)res, 0);
}

/* There is one processor. */
int __vdso_getcpu(u32 *cpu, u32 *node, void *unused)
{
	(void)unused;
	if (cpu)
		*cpu = 0;
	if (node)
		*node = 0;
	return 0;
}

/* The names without prefix, as Linux has them. */
int clock_gettime(int, struct timespec *) __attribute__((weak, alias("__vdso_clock_gettime")));
int gettimeofday(struct timeval *, struct timezone *) __attribute__((weak, alias("__vdso_gettimeofday")));
s64 time(s64 *) __attribute__((weak, alias("__vdso_time")));
int clock_getres(int, struct timespec *) __attribute__((weak, alias("__vdso_clock_getres")));
int getcpu(u32 *, u32 *, void *) __attribute__((weak, alias("__vdso_getcpu")));
