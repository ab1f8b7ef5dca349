/* The clocks of every process that loads this: moved by the nanoseconds in a file, which another process may write.
 *
 * The file holds two integers of 64 bits: for the wall clock, and for the time since boot. The monotonic clock, by
 * which programs wait, is left alone. libfaketime of Debian 12 would be the library for it: a Python that sleeps gets
 * EINVAL under it, or hangs, and the newer ones need a newer libc. Not moved are the times of files.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static const int64_t unmoved[2];
static volatile const int64_t *moved = unmoved;

__attribute__((constructor)) static void begin(void) {
    int file = open("/opt/clock", O_RDONLY | O_CLOEXEC);
    if (file < 0) return;
    void *page = mmap(0, sizeof unmoved, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (page != MAP_FAILED) moved = page;
}

static void add(struct timespec *time, int64_t nanoseconds) {
    int64_t sum = time->tv_nsec + nanoseconds % 1000000000;
    time->tv_sec += nanoseconds / 1000000000 + sum / 1000000000;
    time->tv_nsec = sum % 1000000000;
    if (time->tv_nsec < 0) {  /* C's remainder of a clock that is moved back is negative, too */
        time->tv_nsec += 1000000000;
        time->tv_sec--;
    }
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = syscall(SYS_clock_gettime, clock, now);
    if (failed) return failed;
    if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) add(now, moved[0]);
    if (clock == CLOCK_BOOTTIME) add(now, moved[1]);
    return 0;
}

/* struct timeval has microseconds in the place of nanoseconds; its header would declare the pointer as never null. */
int gettimeofday(struct timespec *now, void *zone) {
    (void)zone;
    clock_gettime(CLOCK_REALTIME, now);
    now->tv_nsec /= 1000;
    return 0;
}

time_t time(time_t *place) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (place) *place = now.tv_sec;
    return now.tv_sec;
}
