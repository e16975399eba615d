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
    for (int y = 0; y < 6; ++y) d[y] = load(from + y * row + x * pixel);
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

// Sixteen channels of one tile back in pixels; see Convolution.
HL_INLINE void finish_tile(const Convolution& job, const float* from, int64_t point, int tile_x, int tile_y, int channel) {
  F rows[6][4];
  for (int x = 0; x < 6; ++x) {
    F m[6];
    for (int y = 0; y < 6; ++y) m[y] = load(from + (6 * y + x) * point);
    transform_outputs(m, rows[x]);
  }
  const F bias = load(job.net.bias + channel), zero = bc(0.0f);
  for (int j = 0; j < kConvTile && tile_y + j < job.out.height; ++j) {
    F m[6], out[4];
    for (int x = 0; x < 6; ++x) m[x] = rows[x][j];
    transform_outputs(m, out);
    for (int i = 0; i < kConvTile && tile_x + i < job.out.width; ++i) {
      F value = out[i] + bias;
      if (job.add) value = value + load(at(*job.add, tile_x + i, tile_y + j) + channel);
      if (job.rectify) value = max(value, zero);
      if (job.then) value = value + load(at(*job.then, tile_x + i, tile_y + j) + channel);
      store(at(job.out, tile_x + i, tile_y + j) + channel, value);
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
    for (int c = 0; c < outputs; c += 16) finish_tile(job, out + t * outputs + c, out_point, x, y, c);
  }
}

HL_INLINE int clamped(int i, int size) { return i < 0 ? 0 : i < size ? i : size - 1; }

// Pixels begin..end of one row of a channel, blurred, to `out`, both arrays with room for 2 radius and 32 pixels more.
HL_INLINE void blur_row(const HlSharpener& net, const float* plane, int width, int height, int y, int begin, int end,
                        float* line, float* out) {
  const int radius = net.radius, from = begin - radius < 0 ? 0 : begin - radius;
  const int to = end + radius < width ? end + radius : width;
  line += radius - begin;  // line[x] is column x
  for (int x = from; x < to; x += 16) {
    if (x + 16 <= width) {
      F sum = bc(0.0f);
      for (int k = -radius; k <= radius; ++k)
        sum = fma(bc(net.taps[k + radius]), load(plane + static_cast<int64_t>(clamped(y + k, height)) * width + x), sum);
      store(line + x, sum);
      continue;
    }
    for (int i = x; i < to; ++i) {
      float sum = 0.0f;
      for (int k = -radius; k <= radius; ++k)
        sum += net.taps[k + radius] * plane[static_cast<int64_t>(clamped(y + k, height)) * width + i];
      line[i] = sum;
    }
  }
  for (int x = begin - radius; x < 0; ++x) line[x] = line[0];
  for (int x = width; x < end + radius; ++x) line[x] = line[width - 1];
  for (int x = begin; x < end; x += 16) {  // reads and writes up to 15 floats beyond
    F sum = bc(0.0f);
    for (int k = -radius; k <= radius; ++k) sum = fma(bc(net.taps[k + radius]), load(line + x + k), sum);
    store(out + x - begin, sum);
  }
}

void split_bands(const HlSharpener& net, const float* picture, int32_t width, int32_t height, int32_t y, int32_t begin,
                 int32_t end, float* rows, const Plane& out) {
  const int r = net.unshuffle, left = begin * r, right = end * r < width ? end * r : width;
  const int64_t plane = static_cast<int64_t>(width) * height;
  float *line = rows, *low = rows + width + 2 * net.radius + 32;
  float* to = at(out, begin, y);
  for (int c = 0; c < 3; ++c) {
    for (int j = 0; j < r; ++j) {
      const int from_y = clamped(y * r + j, height);
      const float* source = picture + plane * c + static_cast<int64_t>(from_y) * width;
      blur_row(net, picture + plane * c, width, height, from_y, left, right, line, low);
      for (int i = 0; i < r; ++i) {
        const int channel = (c * r + j) * r + i, high = 3 * r * r;
        for (int x = begin; x < end; ++x) {
          const int from_x = clamped(x * r + i, width);
          float* pixel = to + static_cast<int64_t>(x - begin) * out.channels + channel;
          pixel[0] = low[from_x - left];
          pixel[high] = source[from_x] - low[from_x - left];
        }
      }
    }
  }
  for (int x = 0; x < end - begin; ++x)
    for (int c = 6 * r * r; c < out.channels; ++c) to[static_cast<int64_t>(x) * out.channels + c] = 0.0f;
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
