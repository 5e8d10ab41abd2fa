/* The inner loop of every weighted mean: what NumPy does in three passes (convert, multiply, add), in one.
 *
 * Each element is added to in the order of the rows. The products are exact, since a weight has at most 29 significant
 * bits and a float 24, so a processor that multiplies and adds in one step gives the same bits as one that takes two.
 *
 * Compiled when hpcflow is installed (hatch_build.py), loaded by accumulator.py. Calls nothing, so it runs under the
 * C library of any image. */
#include <stddef.h>

/* One binary for a cluster of several generations of nodes: the loader picks what the processor has. */
#if defined(FOR_EVERY_PROCESSOR) /* by a test, for one processor */
#elif defined(__x86_64__) && defined(__gnu_linux__)
#define FOR_EVERY_PROCESSOR __attribute__((target_clones("default", "avx2", "avx512f")))
#else
#define FOR_EVERY_PROCESSOR
#endif

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

/* total[i] += weights[0] * rows[i] + weights[1] * rows[stride + i] + ..., from left to right, for `count` rows. */
void add_rows(double *total, const float *rows, size_t stride, const double *weights, size_t count, size_t size)
{
    size_t k = 0;
    for (; k + 4 <= count; k += 4, rows += 4 * stride)
        add_four(total, rows, rows + stride, rows + 2 * stride, rows + 3 * stride, weights + k, size);
    for (; k < count; k++, rows += stride)
        add_one(total, rows, weights[k], size);
}
