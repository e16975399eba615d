// The sharpening network, channels last; included by kernels.cpp. Its 3x3 convolutions are Winograd's F(4x4, 3x3)
// (Lavin and Gray 2015): 36 products for 16 outputs in place of 144, at about 1e-5 of rounding.

namespace {

constexpr int kPoints = 36;       // of a transformed tile of 6x6 inputs
constexpr int kInputs = kConvTile + 2;

// B^T d of six values.
HL_INLINE void transform_inputs(const F (&d)[6], F (&t)[6]) {
  const F two = bc(2.0f), four = bc(4.0f), five = bc(5.0f);
  const F a = fnma(four, d[2], d[4]), b = fnma(four, d[1], d[3]), c = d[4] - d[2], e = d[3] - d[1];
  t[0] = fma(four, d[0], fnma(five, d[2], d[4]));
  t[1] = a + b, t[2] = a - b;
  t[3] = fma(two, e, c), t[4] = fnma(two, e, c);
  t[5] = fma(four, d[1], fnma(five, d[3], d[5]));
}

// A^T m of six values.
HL_INLINE void transform_outputs(const F (&m)[6], F (&y)[4]) {
  const F two = bc(2.0f), four = bc(4.0f), eight = bc(8.0f);
  const F p = m[1] + m[2], q = m[1] - m[2], r = m[3] + m[4], s = m[3] - m[4];
  y[0] = m[0] + p + r;
  y[1] = fma(two, s, q);
  y[2] = fma(four, r, p);
  y[3] = fma(eight, s, q) + m[5];
}

// Sixteen channels of the 6x6 inputs at `from`, whose rows are `row` and pixels `pixel` floats apart; point k of the
// transformed tile goes to to + k * point.
HL_INLINE void transform_tile(const float* from, int64_t row, int pixel, float* to, int64_t point) {
  F columns[6][6];
  for (int x = 0; x < 6; ++x) {
    F d[6];
    for (int y = 0; y < 6; ++y) {
      const float* at = from + y * row + x * pixel;
      if (x >= 2) __builtin_prefetch(at + kConvTile * pixel);  // of the tile to the right
      d[y] = load(at);
    }
    transform_inputs(d, columns[x]);
  }
  for (int y = 0; y < 6; ++y) {
    F d[6], t[6];
    for (int x = 0; x < 6; ++x) d[x] = columns[x][y];
    transform_inputs(d, t);
    for (int x = 0; x < 6; ++x) store(to + (6 * y + x) * point, t[x]);
  }
}

// out[tile][16 v + lane] = sum over inputs of in[tile][input] * weights[input][16 v + lane], for one point.
template <int kTiles, int kVectors>
HL_INLINE void multiply(const float* in, int inputs, const float* weights, int outputs, float* out) {
  F sum[kTiles][kVectors];
#pragma GCC unroll 8
  for (int t = 0; t < kTiles; ++t)
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) sum[t][v] = bc(0.0f);
  for (int i = 0; i < inputs; ++i) {
    F w[kVectors];
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) w[v] = load(weights + static_cast<int64_t>(i) * outputs + 16 * v);
#pragma GCC unroll 8
    for (int t = 0; t < kTiles; ++t) {
      const F x = bc(in[t * inputs + i]);
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) sum[t][v] = fma(x, w[v], sum[t][v]);
    }
  }
#pragma GCC unroll 8
  for (int t = 0; t < kTiles; ++t)
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) store(out + t * outputs + 16 * v, sum[t][v]);
}

// Sixteen channels of one tile back in pixels, `columns` by `rows` of them; `place` is where they begin in every plane.
HL_INLINE void finish_tile(const Convolution& job, const float* from, int64_t point, int64_t place, int columns, int rows,
                           int channel) {
  F half[6][4];
  for (int x = 0; x < 6; ++x) {
    F m[6];
    for (int y = 0; y < 6; ++y) m[y] = load(from + (6 * y + x) * point);
    transform_outputs(m, half[x]);
  }
  const F bias = load(job.net.bias + channel), zero = bc(0.0f);
  const int64_t row = static_cast<int64_t>(job.out.width + 2) * job.out.channels;
  for (int j = 0; j < rows; ++j, place += row) {
    F m[6], out[4];
    for (int x = 0; x < 6; ++x) m[x] = half[x][j];
    transform_outputs(m, out);
    for (int i = 0; i < kConvTile; ++i) {
      if (i >= columns) break;
      const int64_t at = place + i * job.out.channels;
      F value = out[i] + bias;
      if (job.add) value = value + load(job.add->data + at);
      if (job.rectify) value = max(value, zero);
      if (job.then) value = value + load(job.then->data + at);
      store(job.out.data + at, value);
    }
  }
}

void convolve(const Convolution& job, const uint32_t* places, int count, float* work) {
  const int inputs = job.net.inputs, outputs = job.net.outputs, tiles_x = (job.out.width + kConvTile - 1) / kConvTile;
  const int64_t in_point = static_cast<int64_t>(kConvBatch) * inputs, out_point = static_cast<int64_t>(kConvBatch) * outputs;
  float *in = work, *out = work + kPoints * in_point;
  const int64_t row = static_cast<int64_t>(job.in.width + 2) * inputs;
  for (int t = 0; t < count; ++t) {
    const int x = static_cast<int>(places[t]) % tiles_x * kConvTile, y = static_cast<int>(places[t]) / tiles_x * kConvTile;
    for (int c = 0; c < inputs; c += 16) transform_tile(at(job.in, x - 1, y - 1) + c, row, inputs, in + t * inputs + c, in_point);
  }
  if (count < kConvBatch)  // the rest of the batch is computed and thrown away: keep it from being slow numbers
    for (int k = 0; k < kPoints; ++k) memset(in + k * in_point + count * inputs, 0, sizeof(float) * (kConvBatch - count) * inputs);
  for (int k = 0; k < kPoints; ++k) {
    const float* weights = job.net.weights + static_cast<int64_t>(k) * inputs * outputs;
    const float* from = in + k * in_point;
    float* to = out + k * out_point;
    int c = 0;
    for (; c + 32 <= outputs; c += 32)
      for (int t = 0; t < kConvBatch; t += 3) multiply<3, 2>(from + t * inputs, inputs, weights + c, outputs, to + t * outputs + c);
    for (; c < outputs; c += 16)
      for (int t = 0; t < kConvBatch; t += 6) multiply<6, 1>(from + t * inputs, inputs, weights + c, outputs, to + t * outputs + c);
  }
  for (int t = 0; t < count; ++t) {
    const int x = static_cast<int>(places[t]) % tiles_x * kConvTile, y = static_cast<int>(places[t]) / tiles_x * kConvTile;
    const int columns = job.out.width - x < kConvTile ? job.out.width - x : kConvTile;
    const int rows = job.out.height - y < kConvTile ? job.out.height - y : kConvTile;
    const int64_t place = at(job.out, x, y) - job.out.data;
    for (int c = 0; c < outputs; c += 16)
      finish_tile(job, out + t * outputs + c, out_point, place + c, columns, rows, c);
  }
}

HL_INLINE int clamped(int i, int size) { return i < 0 ? 0 : i < size ? i : size - 1; }

// Sums of kVectors * 16 neighbours over the taps, tap k at from(k).
template <int kVectors, class From>
HL_INLINE void blur_across(const HlSharpener& net, From&& from, float* to) {
  F sum[kVectors];
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) sum[v] = bc(0.0f);
  for (int k = -net.radius; k <= net.radius; ++k) {
    const F tap = bc(net.taps[k + net.radius]);
    const float* p = from(k);
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) sum[v] = fma(tap, load(p + 16 * v), sum[v]);
  }
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) store(to + 16 * v, sum[v]);
}

// Pixels begin..end of one row of a channel, blurred, to `out`, both arrays with room for 2 radius and 64 pixels more.
HL_INLINE void blur_row(const HlSharpener& net, const float* plane, int width, int height, int y, int begin, int end,
                        float* line, float* out) {
  const int radius = net.radius, first = begin - radius < 0 ? 0 : begin - radius;
  const int last = end + radius < width ? end + radius : width;
  line += radius - begin;  // line[x] is column x
  int x = first;
  const auto above = [&](int k) { return plane + static_cast<int64_t>(clamped(y + k, height)) * width + x; };
  for (; x < last && x + 64 <= width; x += 64) blur_across<4>(net, above, line + x);
  for (; x < last && x + 16 <= width; x += 16) blur_across<1>(net, above, line + x);
  for (; x < last; ++x) {
    float sum = 0.0f;
    for (int k = -radius; k <= radius; ++k) sum += net.taps[k + radius] * *above(k);
    line[x] = sum;
  }
  for (x = begin - radius; x < 0; ++x) line[x] = line[0];
  for (x = width; x < end + radius; ++x) line[x] = line[width - 1];
  const auto beside = [&](int k) { return line + x + k; };
  for (x = begin; x < end; x += 64) blur_across<4>(net, beside, out + x - begin);  // and up to 63 floats beyond
}

void split_bands(const HlSharpener& net, const float* picture, int32_t width, int32_t height, int32_t y, int32_t begin,
                 int32_t end, float* rows, const Plane& out) {
  const int r = net.unshuffle, left = begin * r, right = end * r < width ? end * r : width, room = width + 2 * net.radius + 64;
  const int64_t plane = static_cast<int64_t>(width) * height;
  const int folded = 3 * r, high = folded * r;
  float* low = rows + room;
  for (int k = 0; k < folded; ++k)
    blur_row(net, picture + plane * (k / r), width, height, clamped(y * r + k % r, height), left, right, rows, low + k * room);
  constexpr int kChunk = 16;  // pixels, whose channels stay in the nearest cache
  for (int chunk = begin; chunk < end; chunk += kChunk) {
    const int stop = end - chunk < kChunk ? end : chunk + kChunk;
    float* pixels = at(out, chunk, y);
    for (int k = 0; k < folded; ++k) {
      const float* source = picture + plane * (k / r) + static_cast<int64_t>(clamped(y * r + k % r, height)) * width;
      const float* blurred = low + k * room - left;
      for (int i = 0; i < r; ++i) {
        float* to = pixels + k * r + i;
        for (int x = chunk; x < stop; ++x, to += out.channels) {
          const int from = clamped(x * r + i, width);
          to[0] = blurred[from];
          to[high] = source[from] - blurred[from];
        }
      }
    }
    for (int c = 2 * high; c < out.channels; ++c)
      for (int x = 0; x < stop - chunk; ++x) pixels[static_cast<int64_t>(x) * out.channels + c] = 0.0f;
  }
}

void subtract(const HlSharpener& net, const Plane& residual, const float* picture, int32_t width, int32_t height, int32_t y,
              float* out) {
  const int r = net.unshuffle;
  for (int c = 0; c < 3; ++c) {
    for (int j = 0; j < r && y * r + j < height; ++j) {
      const int64_t row = (static_cast<int64_t>(c) * height + y * r + j) * width;
      for (int i = 0; i < r; ++i) {
        const float* from = at(residual, 0, y) + (c * r + j) * r + i;
        for (int x = i; x < width; x += r, from += residual.channels) {
          const float value = picture[row + x] - *from;
          out[row + x] = value < 0.0f ? 0.0f : value > 1.0f ? 1.0f : value;
        }
      }
    }
  }
}

}  // namespace
