/* The assignment problem for a batch of cost matrices, and the two steps of detection losses over
 * their inputs: the C interface of the native solver.
 *
 * One struct in, one call. Every field is eight bytes wide, so that any language can pack it.
 * No Python and no framework: the solver is a leaf.
 */
#ifndef HUNGARIAN_H
#define HUNGARIAN_H

#include <stdint.h>

#if defined(_WIN32)
#define HUNGARIAN_API __declspec(dllexport)
#else
#define HUNGARIAN_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Raised whenever a struct, the meaning of a field or the set of functions changes. */
#define HUNGARIAN_ABI 6

enum hungarian_dtype { HUNGARIAN_FLOAT32 = 0, HUNGARIAN_FLOAT64 = 1 };

/* What NaN and -inf do (+inf with maximize); as `nan=` of hungarian_core.assign. */
enum hungarian_nan {
  HUNGARIAN_NAN_RAISE = 0,  /* the sample is HUNGARIAN_INVALID */
  HUNGARIAN_NAN_WORST = 1,  /* NaN counts as the worst, -inf as the best finite valid cost */
  HUNGARIAN_NAN_FORBID = 2, /* NaN forbids the pair; -inf is invalid */
};

/* What became of a sample. Where not SOLVED its matches are -1 and its cost and duals NaN. */
enum hungarian_status { HUNGARIAN_SOLVED = 0, HUNGARIAN_INVALID = 1, HUNGARIAN_INFEASIBLE = 2 };

/* Errors of a call, all negative. */
enum hungarian_error {
  HUNGARIAN_BAD_ARGUMENT = -1,
  HUNGARIAN_OUT_OF_MEMORY = -2,
  HUNGARIAN_INTERRUPTED = -3, /* SIGINT came; the results mean nothing, and the next call works */
};

typedef struct {
  int64_t abi; /* HUNGARIAN_ABI */
  int64_t dtype;
  int64_t batch, n, m;
  const void *cost;        /* [batch, n, m] */
  int64_t cost_strides[3]; /* in elements, of any sign */
  const uint8_t *row_mask; /* [batch, n] row-major, nonzero = valid; or NULL */
  const uint8_t *col_mask; /* [batch, m] likewise */
  const void *unmatched_cost;       /* [batch, n] in dtype, or NULL */
  int64_t unmatched_cost_strides[2]; /* in elements */
  int64_t maximize; /* 0 or 1 */
  int64_t nan;
  int64_t threads;    /* at most this many, 0 for the default of hungarian_set_num_threads */
  int64_t index_bits; /* 32 or 64: the integers of col4row and row4col */
  void *col4row;      /* [batch, n], -1 = unmatched; results are row-major */
  void *row4col;      /* [batch, m] */
  void *total;        /* [batch] in dtype */
  void *u;            /* [batch, n] in dtype */
  void *v;            /* [batch, m] in dtype */
  uint8_t *status;    /* [batch] */
} hungarian_batch;

/* Solve; return how many samples are not HUNGARIAN_SOLVED, or a negative error.
 *
 * Arrays of costs and prices may begin at any address. A call that may take longer than some 50 ms
 * handles SIGINT while it runs, if the process does: it calls the handler that it found, and
 * returns HUNGARIAN_INTERRUPTED, in whichever thread, within a fraction of a second. */
HUNGARIAN_API int64_t hungarian_solve(const hungarian_batch *problems);

/* What it costs to take a query for an object of a class; as `class_cost_form` of DetrLoss. */
enum hungarian_class_cost {
  HUNGARIAN_COST_NONE = 0,
  HUNGARIAN_COST_SOFTMAX = 1,    /* -p */
  HUNGARIAN_COST_NLL = 2,        /* -log p by softmax */
  HUNGARIAN_COST_FOCAL = 3,      /* with gamma = 2 */
  HUNGARIAN_COST_BINARY_NLL = 4, /* -log p by sigmoid */
  HUNGARIAN_COST_FOCAL_PUBLISHED = 5, /* with gamma = 2, of -log(p + 1e-8) and -log(1 - p + 1e-8) */
};

/* The matching costs of detection, of every true object with every query of its problem. */
typedef struct {
  int64_t abi;
  int64_t dtype;
  int64_t problems, queries, objects, classes;
  int64_t softmax; /* 1: the last class is "no object"; 0: sigmoid */
  int64_t class_cost;
  int64_t safe;        /* 1: negative sides count as 0, ratios to an area of 0 as 0 */
  int64_t only_finite; /* 1: costs of +inf become NaN */
  int64_t threads;
  double class_weight, bbox_weight, giou_weight, alpha;
  const void *logits;     /* [problems, queries, classes]; everything is row-major */
  const void *boxes;      /* [problems, queries, 4] cxcywh, or NULL */
  const int64_t *labels;  /* [problems, objects], -1 = no class, which costs nothing */
  const void *true_boxes; /* [problems, objects, 4] */
  const uint8_t *mask;    /* [problems, objects] nonzero = valid; the cost of others is 0 */
  void *cost;             /* [problems, objects, queries] */
  void *max_logit;        /* [problems, queries] the largest logit */
  void *log_normaliser;   /* [problems, queries] softmax: the log of the sum of exponentials */
  uint8_t *claims_object; /* [problems, queries] 1: the query says that there is an object */
} hungarian_matching_costs;

HUNGARIAN_API int64_t hungarian_matching_cost(const hungarian_matching_costs *costs);

/* As `class_loss` of DetrLoss, with gamma = 2. */
enum hungarian_class_loss_kind {
  HUNGARIAN_LOSS_SOFTMAX = 0,
  HUNGARIAN_LOSS_FOCAL = 1,     /* in units of 1 - alpha */
  HUNGARIAN_LOSS_VARIFOCAL = 2, /* in units of alpha */
  HUNGARIAN_LOSS_IA_BCE = 3,
};

/* The losses of the queries' classes, and their slopes by the logits. */
typedef struct {
  int64_t abi;
  int64_t dtype;
  int64_t problems, queries, classes;
  int64_t loss;
  int64_t threads;
  double alpha;
  const void *logits;          /* [problems, queries, classes] */
  const int64_t *labels;       /* [problems, queries] what to say; sigmoid: -1 = nothing */
  const void *overlap;         /* [problems, queries] IoU with the match, or NULL */
  const void *log_normaliser;  /* [problems, queries] of hungarian_matching_costs, for softmax */
  void *value;                 /* [problems, queries] */
  void *slope;                 /* [problems, queries, classes] */
} hungarian_class_losses;

HUNGARIAN_API int64_t hungarian_class_loss(const hungarian_class_losses *losses);

/* The losses of pairs of boxes in cxcywh and their slopes by the predicted boxes. */
typedef struct {
  int64_t abi;
  int64_t dtype;
  int64_t problems, pairs;
  int64_t safe; /* as in hungarian_matching_costs */
  int64_t threads;
  const void *boxes;      /* [problems, pairs, 4], predicted; everything is row-major */
  const void *true_boxes; /* [problems, pairs, 4] */
  void *distance;         /* [problems, pairs] the L1 distance */
  void *apart;            /* [problems, pairs] one less the GIoU */
  void *distance_slope;   /* [problems, pairs, 4] */
  void *apart_slope;      /* [problems, pairs, 4] */
} hungarian_box_losses;

HUNGARIAN_API int64_t hungarian_box_loss(const hungarian_box_losses *losses);

/* Say what an error code means. */
HUNGARIAN_API const char *hungarian_message(int64_t error);

/* Set how many threads a call may use, this process over; 0 restores the default:
 * HUNGARIAN_NUM_THREADS from the environment, else one in a worker, else OMP_NUM_THREADS, else one
 * per available processor. A worker is a process that was forked from one that had loaded the
 * library, or that calls hungarian_be_worker because it knows to be one of many. */
HUNGARIAN_API void hungarian_set_num_threads(int64_t threads);
HUNGARIAN_API int64_t hungarian_get_num_threads(void);
HUNGARIAN_API void hungarian_be_worker(void);

HUNGARIAN_API int64_t hungarian_abi(void);

/* The instruction set in use, such as "x86-64-v4". */
HUNGARIAN_API const char *hungarian_variant(void);

#ifdef __cplusplus
}
#endif

#endif
