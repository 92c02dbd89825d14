// Raw bytes as costs, shapes, strides, masks and prices: `fuzz SECONDS [SEED]`, or libFuzzer.
#include <chrono>

#include "problem.h"

namespace {

// What is read beyond the end is 0.
class Bytes {
 public:
  Bytes(const uint8_t *data, size_t size) : data_(data), left_(size) {}
  uint8_t byte() { return left_ ? (--left_, *data_++) : 0; }
  int64_t below(int64_t bound) { return byte() % bound; }
  bool flag() { return byte() & 1; }
  template <class T>
  double raw() {
    T x;
    uint8_t bytes[sizeof x];
    for (uint8_t &b : bytes) b = byte();
    std::memcpy(&x, bytes, sizeof x);
    return double(x);
  }

 private:
  const uint8_t *data_;
  size_t left_;
};

template <class T>
double number(Bytes &bytes, int kind) {
  using Limits = std::numeric_limits<T>;
  static const double corner[] = {0, -0.0, 1, 1 + double(Limits::epsilon()), -1, 2, INF, -INF,
                                  NOT_A_NUMBER, Limits::max(), Limits::lowest(),
                                  Limits::denorm_min(), Limits::min(), 1e30, 0.5, INF};
  switch (kind) {
    case 0: return bytes.raw<T>();
    case 1: return corner[bytes.below(16)];
    case 2: return double(bytes.below(4));                             // ties
    case 3: return double(T(1 + bytes.below(8) * Limits::epsilon()));  // near-ties
    case 4: return bytes.below(8) ? INF : double(bytes.byte());        // sparse
    default: return double(int8_t(bytes.byte()));
  }
}

template <class T>
void fill(std::vector<double> &numbers, size_t count, Bytes &bytes, int kind) {
  for (size_t k = 0; k < count; ++k) numbers.push_back(number<T>(bytes, kind));
}

void fill(const Problem &p, std::vector<double> &numbers, size_t count, Bytes &bytes, int kind) {
  if (p.dtype == HUNGARIAN_FLOAT32) {
    fill<float>(numbers, count, bytes, kind);
  } else {
    fill<double>(numbers, count, bytes, kind);
  }
}

void run(const uint8_t *data, size_t size) {
  Bytes bytes(data, size);
  Problem p;
  const int64_t size_class = bytes.below(16);
  const int64_t largest = size_class > 4 ? 9 : size_class > 0 ? 70 : 200;
  p.n = bytes.below(largest);
  p.m = bytes.below(largest);
  p.batch = bytes.below(largest > 100 ? 2 : 5);
  p.dtype = bytes.below(2);
  p.index_bits = bytes.flag() ? 32 : 64;
  p.maximize = bytes.flag();
  p.nan = bytes.below(3);
  static const int orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
  std::copy_n(orders[bytes.below(6)], 3, p.layout.order);
  p.layout.step = 1 + bytes.below(8) / 6;
  p.layout.padding = bytes.below(8) / 6;
  p.layout.shift = bytes.below(8) == 7 ? 1 + bytes.below(7) : 0;
  for (bool &reversed : p.layout.reversed) reversed = bytes.below(8) == 7;
  p.layout.repeated = p.batch && bytes.below(8) == 7;
  const int kind = int(bytes.below(6));
  const bool row_mask = bytes.below(4) == 3, col_mask = bytes.below(4) == 3;
  const bool price = bytes.below(4) == 3;
  fill(p, p.cost, (p.layout.repeated ? 1 : p.batch) * p.n * p.m, bytes, kind);
  for (int64_t k = 0; row_mask && k < p.batch * p.n; ++k) p.rows.push_back(bytes.below(3));
  for (int64_t k = 0; col_mask && k < p.batch * p.m; ++k) p.cols.push_back(bytes.below(3));
  if (price) fill(p, p.price, p.batch * p.n, bytes, kind);

  const Result found = solve(p);
  certify(p, found);
  p.threads = 3;
  CHECK(same(found, solve(p)), "three threads differ from one");
}

}  // namespace

#ifdef HUNGARIAN_LIBFUZZER
extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  run(data, size);
  return 0;
}
#else
int main(int argc, char **argv) {
  using Clock = std::chrono::steady_clock;
  const double seconds = argc > 1 ? std::atof(argv[1]) : 5;
  const auto now = uint64_t(std::chrono::system_clock::now().time_since_epoch().count());
  const uint64_t seed = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : now;
  std::printf("fuzz: %s, seed %llu\n", hungarian_variant(), (unsigned long long)seed);
  std::fflush(stdout);
  Random random(seed);
  int64_t runs = 0;
  std::vector<uint8_t> data;
  for (const auto start = Clock::now();
       std::chrono::duration<double>(Clock::now() - start).count() < seconds; ++runs) {
    data.resize(size_t(random.below(random.below(2) ? 400 : 40000)));
    for (uint8_t &byte : data) byte = uint8_t(random.bits() >> 56);
    run(data.data(), data.size());
  }
  std::printf("fuzz: %lld runs\n", (long long)runs);
}
#endif
