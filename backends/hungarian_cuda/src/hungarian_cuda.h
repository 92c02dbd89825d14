/* The assignment problem for a batch of cost matrices in the memory of a CUDA device, and the passes
 * of detection losses there: the C interface.
 *
 * As hungarian.h has it: one struct in, one call, every field eight bytes wide. A call launches on a
 * stream and returns; it does not wait for the device and reads nothing of what lies there.
 */
#ifndef HUNGARIAN_CUDA_H
#define HUNGARIAN_CUDA_H

#include "hungarian.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Raised whenever the struct, the meaning of a field or the set of functions changes. */
#define HUNGARIAN_CUDA_ABI 2

/* An error besides those of hungarian.h: the driver refuses; hungarian_cuda_message says what. */
#define HUNGARIAN_CUDA_DRIVER (-4)

typedef struct {
  int64_t abi; /* HUNGARIAN_CUDA_ABI */
  int64_t dtype;
  int64_t batch, n, m;
  const void *cost;                  /* [batch, n, m], on the device like all arrays */
  int64_t cost_strides[3];           /* in elements, of any sign */
  const uint8_t *row_mask;           /* [batch, n] row-major, nonzero = valid; or NULL */
  const uint8_t *col_mask;           /* [batch, m] likewise */
  const void *unmatched_cost;        /* [batch, n] in dtype, or NULL */
  int64_t unmatched_cost_strides[2]; /* in elements */
  int64_t maximize;                  /* 0 or 1 */
  int64_t nan;                       /* enum hungarian_nan */
  int64_t index_bits;                /* 32 or 64: the integers of col4row and row4col */
  void *col4row;                     /* [batch, n], -1 = unmatched; results are row-major */
  void *row4col;                     /* [batch, m] */
  void *total;                       /* [batch] in dtype */
  void *u;                           /* [batch, n] in dtype */
  void *v;                           /* [batch, m] in dtype */
  uint8_t *status;                   /* [batch] enum hungarian_status */
  void *workspace;                   /* hungarian_cuda_workspace bytes; may be NULL if these are 0 */
} hungarian_cuda_batch;

/* Look for the driver; 0, or an error if there is none that takes the kernel. */
HUNGARIAN_API int64_t hungarian_cuda_open(void);

/* How many devices there are. */
HUNGARIAN_API int64_t hungarian_cuda_devices(void);

/* Write the name of a device; return ten times its compute capability, such as 90, or an error. */
HUNGARIAN_API int64_t hungarian_cuda_device(int64_t ordinal, char *name, int64_t length);

/* How many bytes of working memory a batch of these extents needs on the device, by its shape alone:
 * a multiple of the batch. */
HUNGARIAN_API int64_t hungarian_cuda_workspace(const hungarian_cuda_batch *problems);

/* Launch on a stream, NULL for the default one; 0, or an error. */
HUNGARIAN_API int64_t hungarian_cuda_solve(const hungarian_cuda_batch *problems, void *stream);

/* Launch what hungarian.h has under the same names, on arrays of a device: `abi` is
 * HUNGARIAN_CUDA_ABI there, and `threads` means nothing. 0, or an error. */
HUNGARIAN_API int64_t hungarian_cuda_matching_cost(const hungarian_matching_costs *costs, void *stream);
HUNGARIAN_API int64_t hungarian_cuda_class_loss(const hungarian_class_losses *losses, void *stream);
HUNGARIAN_API int64_t hungarian_cuda_box_loss(const hungarian_box_losses *losses, void *stream);

/* Say what the last error of this thread was. */
HUNGARIAN_API const char *hungarian_cuda_message(void);

HUNGARIAN_API int64_t hungarian_cuda_abi(void);

#ifdef __cplusplus
}
#endif

#endif
