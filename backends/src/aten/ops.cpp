// The operations of ATen that torch-sys does not bind: those whose schema has an array of booleans, a
// memory format, or a result that is not a tensor.
//
// No exception leaves this file: every function returns null, or the message of what was thrown, which
// the caller gives back to `selfcls_free_message`. Results are new tensors that the caller owns.

#include <ATen/core/Tensor.h>
#include <ATen/ops/_batch_norm_impl_index.h>
#include <ATen/ops/_batch_norm_impl_index_backward.h>
#include <ATen/ops/clone.h>
#include <ATen/ops/convolution_backward.h>

#include <array>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <exception>

namespace {

char *message(const char *text) {
  char *copy = strdup(text);
  if (copy == nullptr) std::abort(); // Not even memory for saying so.
  return copy;
}

template <typename Body> char *guarded(Body body) noexcept {
  try {
    body();
    return nullptr;
  } catch (const c10::Error &error) {
    return message(error.what_without_backtrace());
  } catch (const std::exception &error) {
    return message(error.what());
  } catch (...) {
    return message("an exception of unknown type");
  }
}

at::Tensor *owned(const at::Tensor &tensor) { return new at::Tensor(tensor); }

// A gradient in the memory format of the tensor it belongs to: ATen's fast paths want both alike.
at::Tensor laid_out_as(const at::Tensor &gradient, const at::Tensor &like) {
  return gradient.contiguous(like.suggest_memory_format());
}

} // namespace

extern "C" {

void selfcls_free_message(char *text) { std::free(text); }

// The tensor itself where it is laid out as [batch, height, width, channels] already, or else a copy.
char *selfcls_channels_last(const at::Tensor *tensor, at::Tensor **out) {
  return guarded([&] { out[0] = owned(tensor->contiguous(at::MemoryFormat::ChannelsLast)); });
}

// A copy laid out as [batch, channels, height, width]. Always a copy: with one pixel or one channel a
// tensor is laid out both ways, and ATen would take it for the other.
char *selfcls_channels_first(const at::Tensor *tensor, at::Tensor **out) {
  return guarded([&] { out[0] = owned(tensor->clone(at::MemoryFormat::Contiguous)); });
}

// out: gradients of input and weight, each undefined where it is not wanted.
char *selfcls_convolution_backward(const at::Tensor *gradient, const at::Tensor *input,
                                   const at::Tensor *weight, int64_t stride, int64_t padding,
                                   int64_t groups, bool want_input, bool want_weight,
                                   at::Tensor **out) {
  return guarded([&] {
    const std::array<int64_t, 2> strides{stride, stride}, paddings{padding, padding},
        dilations{1, 1}, output_padding{0, 0};
    auto [input_gradient, weight_gradient, bias_gradient] = at::convolution_backward(
        laid_out_as(*gradient, *input), *input, *weight, c10::nullopt, strides, paddings, dilations,
        /*transposed=*/false, output_padding, groups, {want_input, want_weight, false});
    out[0] = owned(input_gradient);
    out[1] = owned(weight_gradient);
  });
}

// out: output, running mean, running variance (new tensors in training, else those given), and three
// tensors for the backward pass; `implementation` is for it, too.
char *selfcls_batch_norm(const at::Tensor *input, const at::Tensor *weight, const at::Tensor *bias,
                         const at::Tensor *mean, const at::Tensor *variance, bool training,
                         double momentum, double eps, at::Tensor **out, int64_t *implementation) {
  return guarded([&] {
    const at::Tensor running_mean = training ? mean->clone() : *mean;
    const at::Tensor running_variance = training ? variance->clone() : *variance;
    auto [output, saved_mean, saved_variance, reserve, chosen] = at::_batch_norm_impl_index(
        *input, *weight, *bias, running_mean, running_variance, training, momentum, eps,
        /*cudnn_enabled=*/true);
    const at::Tensor results[] = {output,     running_mean,   running_variance,
                                  saved_mean, saved_variance, reserve};
    for (const at::Tensor &result : results) *out++ = owned(result);
    *implementation = chosen;
  });
}

// out: gradients of input, weight and bias, each undefined where it is not wanted.
char *selfcls_batch_norm_backward(int64_t implementation, const at::Tensor *gradient,
                                  const at::Tensor *input, const at::Tensor *weight,
                                  const at::Tensor *mean, const at::Tensor *variance,
                                  const at::Tensor *saved_mean, const at::Tensor *saved_variance,
                                  const at::Tensor *reserve, bool training, double eps,
                                  bool want_input, bool want_weight, bool want_bias,
                                  at::Tensor **out) {
  return guarded([&] {
    auto [input_gradient, weight_gradient, bias_gradient] = at::_batch_norm_impl_index_backward(
        implementation, *input, laid_out_as(*gradient, *input), *weight, *mean, *variance,
        *saved_mean, *saved_variance, training, eps, {want_input, want_weight, want_bias}, *reserve);
    out[0] = owned(input_gradient);
    out[1] = owned(weight_gradient);
    out[2] = owned(bias_gradient);
  });
}

} // extern "C"
