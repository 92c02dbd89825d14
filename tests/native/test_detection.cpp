// The steps of detection losses against their definition, one pair and one logit at a time.
#include <unistd.h>

#include "problem.h"

namespace {

struct Sizes {
  int64_t problems, queries, objects, classes;
};

// Fewer and more classes and queries than there are lanes, and no multiple of their number.
const Sizes SIZES[] = {{1, 1, 1, 2}, {2, 5, 3, 4}, {3, 33, 7, 20}, {2, 16, 0, 16}, {60, 24, 8, 17}};

double sigmoid(double x) { return x < 0 ? std::exp(x) / (1 + std::exp(x)) : 1 / (1 + std::exp(-x)); }
double softplus(double x) { return (x > 0 ? x : 0) + std::log1p(std::exp(-std::fabs(x))); }

template <class T>
std::vector<T> random_numbers(Random &random, int64_t count, double low, double high) {
  std::vector<T> numbers;
  for (int64_t k = 0; k < count; ++k) numbers.push_back(T(low + (high - low) * random.real()));
  return numbers;
}

double class_cost(int64_t form, const double *x, int64_t classes, int64_t label, double alpha) {
  const double p = sigmoid(x[label]);
  double sum = 0;
  for (int64_t c = 0; c < classes; ++c) sum += std::exp(x[c]);
  switch (form) {
    case HUNGARIAN_COST_SOFTMAX:
      return -std::exp(x[label]) / sum;
    case HUNGARIAN_COST_NLL:
      return std::log(sum) - x[label];
    case HUNGARIAN_COST_FOCAL:
      return alpha * (1 - p) * (1 - p) * softplus(-x[label]) - (1 - alpha) * p * p * softplus(x[label]);
    case HUNGARIAN_COST_BINARY_NLL:
      return softplus(-x[label]);
    case HUNGARIAN_COST_FOCAL_PUBLISHED: {
      const double q = 1 - p;
      return -alpha * q * q * std::log(p + 1e-8) + (1 - alpha) * p * p * std::log(q + 1e-8);
    }
  }
  return 0;
}

double overlap(const double *a, const double *b) {  // the GIoU of boxes in cxcywh
  double inner = 1, hull = 1;
  for (int k = 0; k < 2; ++k) {
    const double low[] = {a[k] - a[k + 2] / 2, b[k] - b[k + 2] / 2};
    const double high[] = {a[k] + a[k + 2] / 2, b[k] + b[k + 2] / 2};
    inner *= std::max(0.0, std::min(high[0], high[1]) - std::max(low[0], low[1]));
    hull *= std::max(high[0], high[1]) - std::min(low[0], low[1]);
  }
  const double joint = a[2] * a[3] + b[2] * b[3] - inner;
  return inner / joint - (hull - joint) / hull;
}

template <class T>
struct Input {
  Sizes s;
  std::vector<T> logits, boxes, truth, quality;
  std::vector<int64_t> labels, wanted;
  std::vector<uint8_t> mask;

  Input(Random &random, const Sizes &sizes) : s(sizes) {
    logits = random_numbers<T>(random, s.problems * s.queries * s.classes, -9, 9);
    boxes = random_numbers<T>(random, s.problems * s.queries * 4, 0.1, 0.9);
    truth = random_numbers<T>(random, s.problems * s.objects * 4, 0.1, 0.9);
    quality = random_numbers<T>(random, s.problems * s.queries, 0, 1);
    for (int64_t k = 0; k < s.problems * s.objects; ++k) {
      labels.push_back(int64_t(random.below(uint64_t(s.classes))));
      mask.push_back(random.below(4) > 0);
      if (random.below(5) == 0) labels.back() = -1;
    }
    for (int64_t k = 0; k < s.problems * s.queries; ++k) {
      wanted.push_back(int64_t(random.below(uint64_t(s.classes) + 1)) - 1);
    }
  }

  std::vector<double> row(int64_t at) const {
    return {logits.begin() + at * s.classes, logits.begin() + (at + 1) * s.classes};
  }
};

template <class T>
constexpr int64_t DTYPE = sizeof(T) == 4 ? HUNGARIAN_FLOAT32 : HUNGARIAN_FLOAT64;
template <class T>
constexpr double TOLERANCE = sizeof(T) == 4 ? 2e-5 : 1e-12;

template <class T>
void test_matching_cost(Random &random, const Sizes &sizes, int64_t form, bool softmax, int64_t threads) {
  const Input<T> in(random, sizes);
  const Sizes &s = in.s;
  std::vector<T> cost(size_t(s.problems * s.objects * s.queries)), max_logit(size_t(s.problems * s.queries)), log_normaliser(max_logit);
  std::vector<uint8_t> claims_object(max_logit.size());
  hungarian_matching_costs p = {HUNGARIAN_ABI, DTYPE<T>, s.problems, s.queries, s.objects, s.classes, softmax, form,
                       1, 0, threads, 2, 5, 3, 0.25, in.logits.data(), in.boxes.data(),
                       in.labels.data(), in.truth.data(), in.mask.data(), cost.data(), max_logit.data(),
                       log_normaliser.data(), claims_object.data()};
  CHECK(hungarian_matching_cost(&p) == 0, "matching cost");
  // The published cost has the logarithm of 1 - p, of which little is left where p is rounded to T.
  const double tolerance = (form == HUNGARIAN_COST_FOCAL_PUBLISHED ? 100 : 20) * TOLERANCE<T>;
  for (int64_t b = 0; b < s.problems; ++b) {
    for (int64_t q = 0; q < s.queries; ++q) {
      const int64_t at = b * s.queries + q;
      const std::vector<double> x = in.row(at);
      const double most = *std::max_element(x.begin(), x.end());
      CHECK(double(max_logit[size_t(at)]) == most, "max_logit");
      const bool claims = softmax ? x.back() != most : most > 0;
      CHECK(bool(claims_object[size_t(at)]) == claims, "claims_object");
      for (int64_t m = 0; m < s.objects; ++m) {
        const int64_t object = b * s.objects + m;
        double expected = 0;
        if (in.mask[size_t(object)]) {
          double pair[2][4];
          for (int k = 0; k < 4; ++k) {
            pair[0][k] = double(in.boxes[size_t(at * 4 + k)]);
            pair[1][k] = double(in.truth[size_t(object * 4 + k)]);
            expected += 5 * std::fabs(pair[0][k] - pair[1][k]);
          }
          expected -= 3 * overlap(pair[0], pair[1]);
          const int64_t label = in.labels[size_t(object)];
          if (label >= 0) expected += 2 * class_cost(form, x.data(), s.classes, label, 0.25);
        }
        const double came = double(cost[size_t(object * s.queries + q)]);
        CHECK(std::fabs(came - expected) <= tolerance, "cost %g, not %g", came, expected);
      }
    }
  }
}

// The loss of a row of logits; `moved` is where what counts as a constant is taken.
double loss_of(int64_t kind, const std::vector<double> &x, const std::vector<double> &moved,
               int64_t label, double quality, double alpha) {
  double sum = 0;
  for (size_t c = 0; c < x.size(); ++c) {
    const double p = sigmoid(x[c]), constant = sigmoid(moved[c]);
    const bool own = int64_t(c) == label;
    const double t = std::max(0.01, std::pow(constant, alpha) * std::pow(quality, 1 - alpha));
    switch (kind) {
      case HUNGARIAN_LOSS_SOFTMAX:
        sum += std::exp(x[c]);
        break;
      case HUNGARIAN_LOSS_FOCAL:
        sum += own ? alpha / (1 - alpha) * (1 - p) * (1 - p) * softplus(-x[c]) : p * p * softplus(x[c]);
        break;
      case HUNGARIAN_LOSS_VARIFOCAL:
        sum += own ? quality / alpha * (softplus(x[c]) - quality * x[c])
                   : constant * constant * softplus(x[c]);
        break;
      default:
        sum += own ? softplus(x[c]) - t * x[c] : p * p * softplus(x[c]);
    }
  }
  return kind == HUNGARIAN_LOSS_SOFTMAX ? std::log(sum) - x[size_t(label)] : sum;
}

template <class T>
void test_class_loss(Random &random, const Sizes &sizes, int64_t kind, int64_t threads) {
  Input<T> in(random, sizes);
  const Sizes &s = in.s;
  std::vector<T> value(size_t(s.problems * s.queries)), slope(in.logits.size()), log_normaliser(value);
  for (size_t at = 0; at < value.size(); ++at) {
    double sum = 0;
    for (const double x : in.row(int64_t(at))) sum += std::exp(x);
    log_normaliser[at] = T(std::log(sum));
    if (kind == HUNGARIAN_LOSS_SOFTMAX && in.wanted[at] < 0) in.wanted[at] = s.classes - 1;
  }
  hungarian_class_losses p = {HUNGARIAN_ABI, DTYPE<T>, s.problems, s.queries, s.classes, kind, threads, 0.3,
                        in.logits.data(), in.wanted.data(), in.quality.data(), log_normaliser.data(), value.data(),
                        slope.data()};
  CHECK(hungarian_class_loss(&p) == 0, "class loss");
  for (size_t at = 0; at < value.size(); ++at) {
    const std::vector<double> x = in.row(int64_t(at));
    const double quality = double(in.quality[at]);
    const auto loss = [&](const std::vector<double> &y) {
      return loss_of(kind, y, x, in.wanted[at], quality, 0.3);
    };
    const double expected = loss(x);
    CHECK(std::fabs(double(value[at]) - expected) <= TOLERANCE<T> * (1 + expected), "loss %g, not %g",
          double(value[at]), expected);
    for (size_t c = 0; c < x.size(); ++c) {
      const double step = 1e-5;
      std::vector<double> up(x), down(x);
      up[c] += step;
      down[c] -= step;
      const double expected_slope = (loss(up) - loss(down)) / (2 * step);
      const double came = double(slope[at * x.size() + c]);
      CHECK(std::fabs(came - expected_slope) <= 1e-5 * (1 + std::fabs(expected_slope)),
            "slope %g, not %g", came, expected_slope);
    }
  }
}

template <class T>
void test_box_loss(Random &random, const Sizes &sizes, bool safe, int64_t threads) {
  const int64_t pairs = sizes.problems * sizes.queries;
  const auto boxes = random_numbers<T>(random, pairs * 4, 0.1, 0.6), truth = random_numbers<T>(random, pairs * 4, 0.1, 0.6);
  std::vector<T> distance(size_t(pairs), T(NAN)), apart(distance), distance_slope(boxes), apart_slope(boxes);
  hungarian_box_losses p = {HUNGARIAN_ABI, DTYPE<T>, sizes.problems, sizes.queries, safe, threads, boxes.data(),
                            truth.data(), distance.data(), apart.data(), distance_slope.data(), apart_slope.data()};
  CHECK(hungarian_box_loss(&p) == 0, "box loss");
  const auto of_distance = [](const double *a, const double *b) {
    double sum = 0;
    for (int k = 0; k < 4; ++k) sum += std::fabs(a[k] - b[k]);
    return sum;
  };
  const auto of_overlap = [](const double *a, const double *b) { return 1 - overlap(a, b); };
  const auto compare = [&](auto loss, const std::vector<T> &value, const std::vector<T> &slope) {
    for (int64_t at = 0; at < pairs; ++at) {
      double a[4], b[4];
      for (int k = 0; k < 4; ++k) a[k] = double(boxes[size_t(at * 4 + k)]), b[k] = double(truth[size_t(at * 4 + k)]);
      CHECK(std::fabs(double(value[size_t(at)]) - loss(a, b)) <= 20 * TOLERANCE<T>, "loss %g, not %g",
            double(value[size_t(at)]), loss(a, b));
      for (int k = 0; k < 4; ++k) {
        const double step = 1e-7, middle = a[k];
        a[k] = middle + step;
        const double up = loss(a, b);
        a[k] = middle - step;
        const double expected = (up - loss(a, b)) / (2 * step), came = double(slope[size_t(at * 4 + k)]);
        a[k] = middle;
        CHECK(std::fabs(came - expected) <= 1e-4 * (1 + std::fabs(expected)), "slope %g, not %g", came, expected);
      }
    }
  };
  compare(of_distance, distance, distance_slope);
  compare(of_overlap, apart, apart_slope);
}

// The greatest logit, wherever it or a NaN stands, of as many classes as fill no register, one or more.
template <class T>
void test_greatest() {
  for (int64_t classes = 1; classes <= 50; ++classes) {
    for (int64_t place = 0; place < classes; ++place) {
      for (const T odd : {T(7), T(INFINITY), T(NAN)}) {
        std::vector<T> logits(size_t(classes), T(-2));
        logits[size_t(place)] = odd;
        T max_logit = 0, log_normaliser = 0;
        uint8_t claims_object = 0;
        hungarian_matching_costs p = {};
        p.abi = HUNGARIAN_ABI, p.dtype = DTYPE<T>, p.problems = p.queries = p.threads = 1, p.classes = classes;
        p.logits = logits.data(), p.max_logit = &max_logit, p.log_normaliser = &log_normaliser;
        p.claims_object = &claims_object;
        CHECK(hungarian_matching_cost(&p) == 0, "greatest");
        CHECK(odd != odd ? max_logit != max_logit : max_logit == odd, "%g of %d", double(max_logit), int(classes));
        CHECK(bool(claims_object) == (odd == odd), "claims_object");
      }
    }
  }
}

template <class T>
void test_all() {
  test_greatest<T>();
  Random random(11);
  for (const Sizes &sizes : SIZES) {
    for (const int64_t threads : {1, 2}) {
      for (const int64_t form : {HUNGARIAN_COST_NONE, HUNGARIAN_COST_SOFTMAX, HUNGARIAN_COST_NLL}) {
        test_matching_cost<T>(random, sizes, form, true, threads);
      }
      for (const int64_t form : {HUNGARIAN_COST_FOCAL, HUNGARIAN_COST_BINARY_NLL, HUNGARIAN_COST_FOCAL_PUBLISHED}) {
        test_matching_cost<T>(random, sizes, form, false, threads);
      }
      for (int64_t kind = HUNGARIAN_LOSS_SOFTMAX; kind <= HUNGARIAN_LOSS_IA_BCE; ++kind) {
        test_class_loss<T>(random, sizes, kind, threads);
      }
      for (const bool safe : {true, false}) test_box_loss<T>(random, sizes, safe, threads);
    }
  }
}

void test_bad_arguments() {
  CHECK(hungarian_matching_cost(nullptr) == HUNGARIAN_BAD_ARGUMENT, "NULL");
  CHECK(hungarian_class_loss(nullptr) == HUNGARIAN_BAD_ARGUMENT, "NULL");
  CHECK(hungarian_box_loss(nullptr) == HUNGARIAN_BAD_ARGUMENT, "NULL");
  const hungarian_matching_costs costs = {};
  const hungarian_class_losses losses = {};
  hungarian_box_losses boxes = {};
  CHECK(hungarian_matching_cost(&costs) == HUNGARIAN_BAD_ARGUMENT, "nothing");
  CHECK(hungarian_class_loss(&losses) == HUNGARIAN_BAD_ARGUMENT, "nothing");
  CHECK(hungarian_box_loss(&boxes) == HUNGARIAN_BAD_ARGUMENT, "nothing");
  boxes.abi = HUNGARIAN_ABI, boxes.problems = boxes.pairs = 1;
  CHECK(hungarian_box_loss(&boxes) == HUNGARIAN_BAD_ARGUMENT, "no boxes");
}

}  // namespace

int main() {
  alarm(300);  // nothing here may hang
  test_bad_arguments();
  test_all<double>();
  test_all<float>();
  std::printf("%s: detection\n", hungarian_variant());
}
