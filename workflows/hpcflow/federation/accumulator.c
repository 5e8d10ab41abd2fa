/* The inner loop of every weighted mean: what NumPy does in three passes (convert, multiply, add), in one, with the
 * reads between them so that no thread waits for the interpreter's lock.
 *
 * Each element is added to in the order of the rows. The products are exact, since a weight has at most 29 significant
 * bits and a float 24, so a processor that multiplies and adds in one step gives the same bits as one that takes two.
 *
 * Compiled when hpcflow is installed (hatch_build.py), loaded by accumulator.py. It calls pread and nothing else, so it
 * runs under the C library of any image. */
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "files hold little-endian numbers"
#endif

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <unistd.h>

/* One binary for a cluster of several generations of nodes: the loader picks what the processor has. */
#if defined(FOR_EVERY_PROCESSOR) /* by a test, for one processor */
#elif defined(__x86_64__) && defined(__gnu_linux__)
#define FOR_EVERY_PROCESSOR __attribute__((target_clones("default", "avx2", "avx512f")))
#else
#define FOR_EVERY_PROCESSOR
#endif

/* AT_ONCE of accumulator.py. */
#define FOUR 4

FOR_EVERY_PROCESSOR
static void add_one(double *restrict total, const float *restrict row, double weight, size_t size)
{
    for (size_t i = 0; i < size; i++)
        total[i] += weight * row[i];
}

/* Four rows at once: the total is read and written a quarter as often. */
FOR_EVERY_PROCESSOR
static void add_four(double *restrict total, const float *restrict a, const float *restrict b,
                     const float *restrict c, const float *restrict d, const double *weights, size_t size)
{
    const double wa = weights[0], wb = weights[1], wc = weights[2], wd = weights[3];
    for (size_t i = 0; i < size; i++) {
        double sum = total[i];
        sum += wa * a[i];
        sum += wb * b[i];
        sum += wc * c[i];
        sum += wd * d[i];
        total[i] = sum;
    }
}

static bool read_whole(int file, char *into, size_t bytes, off_t at)
{
    while (bytes) {
        const ssize_t got = pread(file, into, bytes, at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return false;
        into += got, at += got, bytes -= (size_t)got;
    }
    return true;
}

/* total[i] += weights[0] * a[i] + weights[1] * b[i] + ..., from left to right, where a, b, ... are the `size` floats
 * of files[0], files[1], ... from the byte offsets[0], offsets[1], ... on. `room` is for four times `size` floats.
 * Returns false if a file could not be read; the total is of no use then. */
bool add_files(double *total, float *room, const int *files, const long long *offsets, const double *weights,
               size_t count, size_t size)
{
    for (size_t first = 0; first < count; first += FOUR) {
        const size_t some = count - first < FOUR ? count - first : FOUR;
        for (size_t k = 0; k < some; k++)
            if (!read_whole(files[first + k], (char *)(room + k * size), size * sizeof *room, offsets[first + k]))
                return false;
        if (some == FOUR)
            add_four(total, room, room + size, room + 2 * size, room + 3 * size, weights + first, size);
        else
            for (size_t k = 0; k < some; k++)
                add_one(total, room + k * size, weights[first + k], size);
    }
    return true;
}
