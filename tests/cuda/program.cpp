// Some problems solved by the kernel in a program of its own, for sanitizers, and passes over some
// detections: each solution is proved by its duals, and each pass by a sum that is known. `driver.cpp` is the rest of the program.
#include "driver.cpp"

#include <math.h>

#include <random>

namespace {

template <class T>
bool solve_and_prove(const char *kernel, int n, int m, bool masks, bool prices, unsigned seed) {
  std::mt19937 random(seed);
  const int batch = 2;
  std::vector<T> cost(batch * n * m), price(batch * n), total(batch), u(batch * n), v(batch * m);
  std::vector<uint8_t> rows(batch * n, 1), cols(batch * m, 1), status(batch, 9);
  std::vector<int64_t> col4row(batch * n), row4col(batch * m);
  for (T &x : cost) x = T(random() % 64);
  for (T &x : price) x = T(random() % 32);
  if (masks) {
    for (uint8_t &x : rows) x = random() % 4 != 0;
    for (uint8_t &x : cols) x = random() % 4 != 0;
  }
  const int64_t room = hungarian::room_of(n, m);
  std::vector<double> workspace(batch * room / 8);
  hungarian_cuda_batch p = {};
  p.abi = HUNGARIAN_CUDA_ABI;
  p.dtype = sizeof(T) == 8 ? HUNGARIAN_FLOAT64 : HUNGARIAN_FLOAT32;
  p.batch = batch;
  p.n = n;
  p.m = m;
  p.cost = cost.data();
  p.cost_strides[0] = n * m;
  p.cost_strides[1] = m;
  p.cost_strides[2] = 1;
  p.row_mask = masks ? rows.data() : nullptr;
  p.col_mask = masks ? cols.data() : nullptr;
  p.unmatched_cost = prices ? price.data() : nullptr;
  p.unmatched_cost_strides[0] = n;
  p.unmatched_cost_strides[1] = 1;
  p.index_bits = 64;
  p.col4row = col4row.data();
  p.row4col = row4col.data();
  p.total = total.data();
  p.u = u.data();
  p.v = v.data();
  p.status = status.data();
  p.workspace = workspace.data();
  void *function = nullptr, *parameters[] = {&p};
  cuModuleGetFunction(&function, nullptr, kernel);
  const bool shared = strstr(kernel, "small") != nullptr;
  cuLaunchKernel(function, batch, 1, 1, 32 * hungarian::WARPS, 1, 1, shared ? unsigned(room) : 0,
                 nullptr, parameters, nullptr);
  for (int b = 0; b < batch; ++b) {
    double duals = 0;
    for (int i = 0; i < n; ++i) {
      duals += u[b * n + i];
      for (int j = 0; j < m; ++j) {
        if (rows[b * n + i] && cols[b * m + j] &&
            double(cost[(b * n + i) * m + j]) - u[b * n + i] - v[b * m + j] < -1e-4) {
          return false;
        }
      }
    }
    for (int j = 0; j < m; ++j) duals += v[b * m + j];
    if (status[b] != HUNGARIAN_SOLVED || fabs(duals - total[b]) > 1e-3) return false;
  }
  return true;
}

// Of equal logits each class has its share, and a box costs nothing beside itself but its GIoU.
template <class T>
bool pass_over(const char *costs, const char *classes, const char *boxes, int queries) {
  const int problems = 2, objects = 3, count = 5;
  const int64_t dtype = sizeof(T) == 8 ? HUNGARIAN_FLOAT64 : HUNGARIAN_FLOAT32;
  std::vector<T> logits(problems * queries * count, T(2)), box(problems * queries * 4, T(0.5));
  std::vector<T> truth(problems * objects * 4, T(0.5)), cost(problems * objects * queries);
  std::vector<T> most(problems * queries), normaliser(most), value(most), slope(logits.size());
  std::vector<T> apart(2 * problems * queries), slopes(2 * box.size());
  std::vector<int64_t> labels(problems * objects, 1), says(problems * queries, 4);
  std::vector<uint8_t> mask(labels.size(), 1), claims(most.size());
  hungarian_matching_costs p = {
      HUNGARIAN_CUDA_ABI, dtype, problems, queries, objects, count, 1, HUNGARIAN_COST_SOFTMAX, 1, 1, 0,
      1.0, 5.0, 2.0, 0.25, logits.data(), box.data(), labels.data(), truth.data(), mask.data(),
      cost.data(), most.data(), normaliser.data(), claims.data()};
  hungarian_class_losses q = {
      HUNGARIAN_CUDA_ABI, dtype, problems, queries, count, HUNGARIAN_LOSS_SOFTMAX, 0, 0.25,
      logits.data(), says.data(), nullptr, normaliser.data(), value.data(), slope.data()};
  hungarian_box_losses r = {
      HUNGARIAN_CUDA_ABI, dtype, problems, queries, 1, 0, box.data(), box.data(),
      apart.data(), apart.data() + problems * queries, slopes.data(), slopes.data() + box.size()};
  const auto launch = [](const char *kernel, int64_t blocks, void *passed) {
    void *function = nullptr, *parameters[] = {passed};
    cuModuleGetFunction(&function, nullptr, kernel);
    return cuLaunchKernel(function, unsigned(blocks), 1, 1, 32 * hungarian::WARPS, 1, 1, 0, nullptr,
                          parameters, nullptr) == 0;
  };
  if (!launch(costs, hungarian::blocks_of(p), &p) || !launch(classes, hungarian::blocks_of(q), &q) ||
      !launch(boxes, hungarian::blocks_of(r), &r)) {
    return false;
  }
  for (const T x : cost) {
    if (!(fabs(x + 2.2) < 1e-5)) return false;
  }
  for (const T x : value) {
    if (!(fabs(x - log(5.0)) < 1e-5)) return false;
  }
  for (const T x : apart) {
    if (!(fabs(x) < 1e-5)) return false;
  }
  return true;
}

}  // namespace

int main() {
#ifdef EMULATE_BY_THREADS  // slow: 256 threads of the system meet at each step
  const int sizes[][2] = {{9, 5}, {20, 20}};
#else
  const int sizes[][2] = {{1, 1}, {5, 9}, {9, 5}, {20, 20}, {0, 3}, {33, 40}};
#endif
  unsigned seed = 0;
  for (const auto &size : sizes) {
    for (const bool masks : {false, true}) {
      for (const bool prices : {false, true}) {
        const int n = size[0], m = size[1];
#ifdef EMULATE_BY_THREADS
        if (masks != prices) continue;
#endif
        const bool proved =
            solve_and_prove<float>("hungarian_small_f32", n, m, masks, prices, ++seed) &&
            solve_and_prove<double>("hungarian_large_f64", n, m, masks, prices, ++seed);
        if (!proved) {
          fprintf(stderr, "%d x %d, masks %d, prices %d: not proved\n", n, m, masks, prices);
          return 1;
        }
      }
    }
  }
  for (const int queries : {1, 40}) {
    if (!pass_over<float>("hungarian_costs_f32", "hungarian_classes_f32", "hungarian_boxes_f32", queries) ||
        !pass_over<double>("hungarian_costs_f64", "hungarian_classes_f64", "hungarian_boxes_f64", queries)) {
      fprintf(stderr, "the passes over %d queries are wrong\n", queries);
      return 1;
    }
  }
  printf("%u batches proved\n", seed);
  return 0;
}
