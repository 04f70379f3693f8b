#include "engine/models/bands.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "engine/backend/ops.h"

namespace darkroom::engine {
namespace {

constexpr std::int64_t kFewestRows = 8;  // of a band, which is computed with up to four more

// A view of the rows [begin, end) of [1,H,W,C].
Tensor rows_of(const Tensor& x, std::int64_t begin, std::int64_t end) {
  const std::int64_t width = x.dim(2), channels = x.channels();
  return x.reshape({x.dim(1), 1, width, channels})
      .slice_batch(begin, end - begin)
      .reshape({1, end - begin, width, channels});
}

// Pictures [1,H,W,C] below each other.
Tensor stacked(const std::vector<Tensor>& parts) {
  if (parts.size() == 1) return parts.front();
  std::vector<Tensor> rows;  // [H,1,W,C]
  for (const Tensor& part : parts) rows.push_back(part.reshape({part.dim(1), 1, part.dim(2), part.channels()}));
  const Tensor all = concat_batch(rows);
  return all.reshape({1, all.dim(0), all.dim(2), all.channels()});
}

// The moments of two sets of values together (Chan et al. 1983).
Moments joined(const Moments& a, double a_count, const Moments& b, double b_count) {
  const double count = a_count + b_count;
  const double apart = b.mean - a.mean;
  return {
      .mean = a.mean + apart * b_count / count,
      .variance = (a.variance * a_count + b.variance * b_count + apart * apart * a_count * b_count / count) / count};
}

}  // namespace

Rows held(Tensor x) {
  return {x.shape(), [x = std::move(x)](std::int64_t begin, std::int64_t end) { return rows_of(x, begin, end); }};
}

Bands::Bands(Network& network, Banding banding) : network_(network), wrap_(network.wrap), banding_(std::move(banding)) {
  network_.wrap.y = false;
}

Bands::Piece Bands::cut(const Rows& rows, std::int64_t begin, std::int64_t end) const {
  const std::int64_t height = rows.shape[1];
  if (!wrap_.y) {
    begin = std::max<std::int64_t>(begin, 0);
    return {rows.make(begin, std::min(end, height)), begin};
  }
  std::vector<Tensor> parts;
  for (std::int64_t at = begin; at < end;) {
    const std::int64_t first = ((at % height) + height) % height;
    const std::int64_t count = std::min(end - at, height - first);
    parts.push_back(rows.make(first, first + count));
    at += count;
  }
  return {stacked(parts), begin};
}

Rows Bands::convolved(const Conv2d& conv, Tensor x, DType out) const {
  Rows source = held(std::move(x));
  const Shape& in = source.shape;
  return {{1, in[1], in[2], conv.weight->packed().out},
          [this, &conv, source = std::move(source), out](std::int64_t begin, std::int64_t end) {
            const Piece piece = cut(source, begin - 1, end + 1);
            return rows_of(conv(piece.x, {.out = out}), begin - piece.begin, end - piece.begin);
          }};
}

Rows Bands::downsampled(const Conv2d& conv, Tensor x, DType out) const {
  Rows source = held(std::move(x));
  const Shape& in = source.shape;
  return {{1, in[1] / 2, in[2] / 2, conv.weight->packed().out},
          [this, &conv, source = std::move(source), out](std::int64_t begin, std::int64_t end) {
            // Row r looks at 2r to 2r + 2; the padding at the bottom is looked at by the picture's last row alone.
            return rows_of(conv(cut(source, 2 * begin, 2 * end + 1).x, {.out = out}), 0, end - begin);
          }};
}

Rows Bands::upsampled(const Upsample2D& upsample, Tensor x, DType out) const {
  Rows source = held(std::move(x));
  const Shape& in = source.shape;
  return {{1, 2 * in[1], 2 * in[2], in[3]},
          [this, &upsample, source = std::move(source), out](std::int64_t begin, std::int64_t end) {
            const Piece piece = cut(source, begin / 2 - 1, (end + 1) / 2 + 1);
            const Tensor doubled = upsample(piece.x, 2 * piece.x.dim(1), 2 * piece.x.dim(2), out);
            return rows_of(doubled, begin - 2 * piece.begin, end - 2 * piece.begin);
          }};
}

void Bands::each_band(const Rows& rows, const std::function<void(std::int64_t begin, std::int64_t end)>& work) const {
  const std::int64_t height = rows.shape[1];
  const std::int64_t row = rows.shape[2] * std::max(rows.shape[3], kBandChannels);
  const std::int64_t most = std::max(banding_.pixels * kBandChannels / row, kFewestRows);
  const std::int64_t bands = (height + most - 1) / most;
  for (std::int64_t i = 0; i < bands; ++i) {
    banding_.between();
    work(height * i / bands, height * (i + 1) / bands);
  }
}

std::vector<Moments> Bands::moments(const Rows& rows, int groups) const {
  std::vector<Moments> all;
  double count = 0;
  each_band(rows, [&](std::int64_t begin, std::int64_t end) {
    const std::vector<Moments> band = group_moments(rows.make(begin, end), groups);
    const auto height = static_cast<double>(end - begin);  // groups are as wide everywhere
    if (all.empty()) {
      all = band;
    } else {
      for (std::size_t i = 0; i < all.size(); ++i) all[i] = joined(all[i], count, band[i], height);
    }
    count += height;
  });
  return all;
}

Tensor Bands::collect(const Rows& rows) const {
  Tensor all;
  each_band(rows, [&](std::int64_t begin, std::int64_t end) {
    const Tensor band = rows.make(begin, end);
    if (!all.defined()) {
      all = empty(network_.backend(), rows.shape, band.dtype());
    }
    copy_into(band, rows_of(all, begin, end));
  });
  return all;
}

Tensor Bands::resnet(const ResnetBlock& block, const Rows& x, DType out) const {
  network_.backend().trim();  // what came before had bands of other sizes, which would be kept beside these
  const std::vector<Moments> first = moments(x, block.norm1.groups);
  const auto half = [&](const Tensor& rows) {
    return block.conv1(block.norm1(rows, {.activation = Activation::silu, .given = first}));
  };
  const Shape shape{1, x.shape[1], x.shape[2], block.channels};
  const std::vector<Moments> second = moments({shape,
                                               [&](std::int64_t begin, std::int64_t end) {
                                                 const Piece piece = cut(x, begin - 1, end + 1);
                                                 return rows_of(half(piece.x), begin - piece.begin, end - piece.begin);
                                               }},
                                              block.norm2.groups);
  return collect({shape, [&](std::int64_t begin, std::int64_t end) {
                    const Piece piece = cut(x, begin - 2, end + 2);
                    // What the second convolution looks at; the rows beyond lack their own surroundings.
                    const std::int64_t from = wrap_.y ? begin - 1 : std::max<std::int64_t>(begin - 1, 0);
                    const std::int64_t to = wrap_.y ? end + 1 : std::min(end + 1, shape[1]);
                    const Tensor input = rows_of(piece.x, from - piece.begin, to - piece.begin);
                    Tensor h = rows_of(half(piece.x), from - piece.begin, to - piece.begin);
                    h = block.norm2(h, {.activation = Activation::silu, .given = second});
                    const Tensor residual = block.conv_shortcut ? (*block.conv_shortcut)(input, {.out = out}) : input;
                    return rows_of(block.conv2(h, {.residual = &residual, .out = out}), begin - from, end - from);
                  }});
}

Tensor Bands::norm_and_convolve(const GroupNorm& norm, const Conv2d& conv, const Rows& x) const {
  network_.backend().trim();
  const std::vector<Moments> all = moments(x, norm.groups);
  return collect({{1, x.shape[1], x.shape[2], conv.weight->packed().out}, [&](std::int64_t begin, std::int64_t end) {
                    const Piece piece = cut(x, begin - 1, end + 1);
                    const Tensor h = norm(piece.x, {.activation = Activation::silu, .given = all});
                    return rows_of(conv(h, {.out = DType::f32}), begin - piece.begin, end - piece.begin);
                  }});
}

}  // namespace darkroom::engine
