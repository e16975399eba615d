// One step of refinement on rows of sixteen lanes, one Gaussian a row (HlRefine in abi.h); included by kernels.cpp.

namespace {

constexpr float kLog2e = 1.4426950408889634f;
alignas(64) constexpr float kUnit[16] = {.01f, .01f, .01f, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};  // of a change: cm
alignas(64) constexpr float kIsColor[16] = {0, 0, 0, 1, 1, 1};
alignas(64) constexpr float kIsScale[16] = {0, 0, 0, 0, 0, 0, 1, 1, 1};
alignas(64) constexpr float kIsLogit[16] = {0, 0, 0, 1, 1, 1, 0, 0, 0, 1};
constexpr int kTrust = 13, kHidden = 14;  // lanes of `start`

HL_INLINE M lanes(const float* chosen) { return load(chosen) > bc(0.0f); }

// The Gaussian's numbers as they are drawn, and their slope along the change.
HL_INLINE void activate(F start, F change, F& value, F& slope) {
  const F unit = load(kUnit), raw = fma(change, unit, start), one = bc(1.0f);
  const F share = one / (one + exp2(min(raw * bc(-kLog2e), bc(126.0f)))), scale = start * exp2(change * bc(kLog2e));
  value = select(lanes(kIsLogit), share, select(lanes(kIsScale), scale, raw));
  slope = select(lanes(kIsLogit), share * (one - share), select(lanes(kIsScale), scale, unit));
}

HL_INLINE double total(F x) {
  alignas(64) float parts[16];
  store(parts, x);
  double sum = 0.0;
  for (float part : parts) sum += static_cast<double>(part);
  return sum;
}

double refine_residuals(const HlRefine& state, const HlRefineStep& step, int64_t begin, int64_t end) {
  const F smooth = load(step.smooth), pull = load(step.pull), share = bc(1.0f / static_cast<float>(state.degree));
  F energy = bc(0.0f);
  for (int64_t i = begin; i < end; ++i) {
    const int32_t* neighbors = state.neighbors + i * state.degree;
    F sum = bc(0.0f);
    for (int32_t j = 0; j < state.degree; ++j) sum = sum + load(state.change + int64_t{16} * neighbors[j]);
    const F x = load(state.change + 16 * i), residual = fnma(sum, share, x), weighted = residual * smooth;
    store(state.residuals + 16 * i, weighted);
    energy = fma(weighted, residual, fma(pull * x, x, energy));
  }
  return total(energy);
}

double refine_moments(const HlRefine& state, const HlRefineStep& step, const HlScene& grads, int64_t begin, int64_t end,
                      double* squares) {
  const F zero = bc(0.0f), one = bc(1.0f), two = bc(2.0f), pull = load(step.pull), mirror = bc(step.mirror);
  const F share = bc(1.0f / static_cast<float>(state.degree)), fresh1 = bc(1.0f - step.beta1), fresh2 = bc(1.0f - step.beta2);
  const M color = lanes(kIsColor);
  F energy = zero, sums = zero;
  alignas(64) float picture[16] = {};
  for (int64_t i = begin; i < end; ++i) {
    const float* start = state.start + 16 * i;
    const F base = load(start), x = load(state.change + 16 * i);
    F back = zero;
    for (int32_t s = state.offsets[i]; s < state.offsets[i + 1]; ++s)
      back = back + load(state.residuals + int64_t{16} * state.sources[s]);
    F gradient = two * fma(pull, x, fnma(back, share, load(state.residuals + 16 * i)));

    const int64_t other = int64_t{16} * state.mirror[i];
    const F apart = keep(color, ((base + x) - (load(state.start + other) + load(state.change + other))) * bc(start[kHidden]));
    gradient = fma(two * mirror, apart, gradient);
    energy = fma(mirror * apart, apart, energy);

    if (const int64_t at = state.places[i]; at >= 0) {
      for (int k = 0; k < 3; ++k) {
        picture[k] = grads.means[3 * at + k];
        picture[3 + k] = grads.colors[3 * at + k] * start[kTrust];
        picture[6 + k] = grads.scales[3 * at + k];
      }
      picture[9] = grads.opacities[at];
      F value, slope;
      activate(base, x, value, slope);
      gradient = fma(load(picture), slope, gradient);
    }

    const F first = load(state.first + 16 * i), second = load(state.second + 16 * i);
    const F squared = fma(fresh2 * gradient, gradient, second * bc(step.beta2));
    store(state.first + 16 * i, fma(fresh1, gradient - first, first));
    store(state.second + 16 * i, squared);
    sums = sums + squared;
  }
  alignas(64) float parts[16];
  store(parts, sums);
  for (int k = 0; k < 16; ++k) squares[k] = static_cast<double>(parts[k]);
  return total(energy);
}

void refine_move(const HlRefine& state, const HlRefineStep& step, const float* lowest, int64_t begin, int64_t end,
                 const HlSceneGrads& out) {
  const F rate = load(step.rate), least = load(lowest), undo = bc(1.0f / step.correction2);
  const F logit = bc(step.max_logit), huge = bc(1e30f);
  const M is_scale = lanes(kIsScale), is_logit = lanes(kIsLogit);
  const F low = select(is_scale, bc(-step.max_log_growth), select(is_logit, bc(0.0f) - logit, bc(0.0f) - huge));
  for (int64_t i = begin; i < end; ++i) {
    const F start = load(state.start + 16 * i), first = load(state.first + 16 * i), second = load(state.second + 16 * i);
    const F limits = load(state.start + 16 * i + 4);  // lanes 10 to 12 under 6 to 8
    F x = fnma(rate, first / fma(sqrt(second), undo, least), load(state.change + 16 * i));
    x = min(max(x, low), select(is_scale, limits, select(is_logit, logit, huge)));
    alignas(64) float row[16];
    store(row, x);
    const float length = __builtin_sqrtf(row[0] * row[0] + row[1] * row[1] + row[2] * row[2]);
    if (length > step.max_offset)
      for (int k = 0; k < 3; ++k) row[k] *= step.max_offset / length;
    x = load(row);
    store(state.change + 16 * i, x);
    const int64_t at = state.places[i];
    if (at < 0) continue;
    F value, slope;
    activate(start, x, value, slope);
    store(row, value);
    for (int k = 0; k < 3; ++k) {
      out.means[3 * at + k] = row[k];
      out.colors[3 * at + k] = row[3 + k];
      out.scales[3 * at + k] = row[6 + k];
    }
    out.opacities[at] = row[9];
  }
}

}  // namespace
