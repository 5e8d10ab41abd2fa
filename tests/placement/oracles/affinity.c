/* A machine of any size for the launchers' sake: preloaded, sched_setaffinity always succeeds and is remembered in
 * $HPCFLOW_FAKE_CPUS/PID, and sched_getaffinity answers from there, or else with $HPCFLOW_FAKE_CPUS/all. Both hold the
 * bytes of a cpu_set_t. A process keeps its PID over exec, so what a launcher bound is what its program sees. */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void name(char *out, size_t size, pid_t pid) {
    snprintf(out, size, "%s/%d", getenv("HPCFLOW_FAKE_CPUS"), pid ? (int)pid : (int)getpid());
}

int sched_setaffinity(pid_t pid, size_t size, const cpu_set_t *set) {
    char path[4096];
    name(path, sizeof path, pid);
    FILE *file = fopen(path, "wb");
    if (!file) return errno = EPERM, -1;
    fwrite(set, 1, size, file);
    fclose(file);
    return 0;
}

int sched_getaffinity(pid_t pid, size_t size, cpu_set_t *set) {
    char path[4096];
    memset(set, 0, size);
    for (int tries = 0; tries < 3; tries++) {
        if (tries == 0) name(path, sizeof path, pid);
        else if (tries == 1) name(path, sizeof path, getppid()); /* what a fork inherits */
        else snprintf(path, sizeof path, "%s/all", getenv("HPCFLOW_FAKE_CPUS"));
        FILE *file = fopen(path, "rb");
        if (!file) continue;
        unsigned char bytes[1024];
        size_t got = fread(bytes, 1, sizeof bytes, file);
        fclose(file);
        while (got > 0 && !bytes[got - 1]) got--;
        if (got > size) return errno = EINVAL, -1; /* as the kernel: the caller tries again with more room */
        memcpy(set, bytes, got);
        return 0;
    }
    return errno = EINVAL, -1;
}
