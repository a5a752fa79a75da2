/* What the vDSO images of all architectures share: reading the clock from the page that the kernel keeps for it.
 *
 * Mirrors lib/vdso/gettimeofday.c. An architecture defines read_counter() and system_call(), includes this file and
 * gives the functions the names that its C libraries look for.
 */

typedef unsigned int u32;
typedef unsigned long u64;
typedef long s64;

struct timespec {
	s64 tv_sec;
	s64 tv_nsec;
};

struct timeval {
	s64 tv_sec;
	s64 tv_usec;
};

struct timezone {
	int tz_minuteswest;
	int tz_dsttime;
};

/* The beginning of the page; minikern/kernel/vdso.py writes it. */
struct vdso_data {
	u32 seq;		/* changes with every update */
	u32 mode;		/* MODE_TRAP: the counter is of no use, ask the kernel */
	u64 cycle_last;		/* the counter at the last update */
	u32 mult;		/* nanoseconds = cycles * mult >> shift */
	u32 shift;
	u64 monotonic_ns;	/* CLOCK_MONOTONIC at the last update */
	s64 realtime_offset_ns;	/* CLOCK_REALTIME - CLOCK_MONOTONIC */
};

enum { MODE_TRAP = 0 };
enum { NSEC_PER_SEC = 1000000000, NSEC_PER_USEC = 1000, PAGE_SIZE = 4096 };

/* Clock ids; to the kernel, too, the others of each kind are the same clock. */
enum {
	CLOCK_REALTIME = 0,
	CLOCK_MONOTONIC = 1,
	CLOCK_MONOTONIC_RAW = 4,
	CLOCK_REALTIME_COARSE = 5,
	CLOCK_MONOTONIC_COARSE = 6,
	CLOCK_BOOTTIME = 7,
	CLOCK_TAI = 11,
	WALL_CLOCKS = 1 << CLOCK_REALTIME | 1 << CLOCK_REALTIME_COARSE | 1 << CLOCK_TAI,
	MONOTONIC_CLOCKS = 1 << CLOCK_MONOTONIC | 1 << CLOCK_MONOTONIC_RAW | 1 << CLOCK_MONOTONIC_COARSE |
			   1 << CLOCK_BOOTTIME,
};

static u64 read_counter(void);
static long system_call(long nr, long first, long second, long third);

extern const char __ehdr_start[] __attribute__((visibility("hidden")));	/* the linker's name for the image */

/* What the clocks in a set show, in nanoseconds; 0 when only the kernel can tell. The kernel may update the page between
 * any two of these instructions, but it never runs at the same time. */
static inline u64 clock_ns(int wall)
{
	const volatile struct vdso_data *data = (const volatile struct vdso_data *)(__ehdr_start - PAGE_SIZE);
	u64 ns;
	u32 seq;

	do {
		seq = data->seq;
		if (data->mode == MODE_TRAP)
			return 0;
		s64 cycles = (s64)(read_counter() - data->cycle_last);
		if (cycles < 0)
			cycles = 0;
		ns = data->monotonic_ns + (u64)((unsigned __int128)cycles * data->mult >> data->shift);
		if (wall)
			ns += (u64)data->realtime_offset_ns;
	} while (seq != data->seq);
	return ns;
}

static inline int do_clock_gettime(long nr, int clock, struct timespec *ts)
{
	u32 set = (u32)clock < 32 ? 1u << clock : 0;
	u64 ns = set & (WALL_CLOCKS | MONOTONIC_CLOCKS) ? clock_ns(set & WALL_CLOCKS) : 0;

	if (!ns)
		return (int)system_call(nr, clock, (long)ts, 0);
	ts->tv_sec = (s64)(ns / NSEC_PER_SEC);
	ts->tv_nsec = (s64)(ns % NSEC_PER_SEC);
	return 0;
}

static inline int do_gettimeofday(long nr, struct timeval *tv, struct timezone *tz)
{
	u64 ns = clock_ns(1);

	if (!ns)
		return (int)system_call(nr, (long)tv, (long)tz, 0);
	if (tv) {
		tv->tv_sec = (s64)(ns / NSEC_PER_SEC);
		tv->tv_usec = (s64)(ns % NSEC_PER_SEC / NSEC_PER_USEC);
	}
	if (tz)
		tz->tz_minuteswest = tz->tz_dsttime = 0;
	return 0;
}
