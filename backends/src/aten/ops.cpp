// The operations of ATen that torch-sys does not bind: those whose schema has an array of booleans, a
// memory format, or a result that is not a tensor.
//
// No exception leaves this file: every function returns null, or the message of what was thrown, which
// the caller gives back to `selfcls_free_message`. Results are new tensors that the caller owns.

#include "../guarded.h"
#include "allocator.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/_batch_norm_impl_index.h>
#include <ATen/ops/_batch_norm_impl_index_backward.h>
#include <ATen/ops/_foreach_add.h>
#include <ATen/ops/_foreach_mul.h>
#include <ATen/ops/_foreach_norm.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/_fused_sgd.h>
#include <ATen/ops/clone.h>
#include <ATen/ops/convolution_backward.h>
#include <ATen/ops/full.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/native_layer_norm_backward.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/where.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <map>
#include <vector>

namespace {

at::Tensor *owned(const at::Tensor &tensor) { return new at::Tensor(tensor); }

// A gradient in the memory format of the tensor it belongs to: ATen's fast paths want both alike.
at::Tensor laid_out_as(const at::Tensor &gradient, const at::Tensor &like) {
  return gradient.contiguous(like.suggest_memory_format());
}

using Tensors = std::vector<at::Tensor>;

Tensors all(at::Tensor *const *tensors, int64_t count) {
  Tensors list;
  for (int64_t i = 0; i < count; ++i) list.push_back(*tensors[i]);
  return list;
}

} // namespace

extern "C" {

// An optimiser's rule, see core's `optim::rule`.
struct selfcls_rule {
  bool adamw, larc, larc_clip;
  double lr, momentum, beta1, beta2, trust, clip;
  double clip_eps, larc_eps, adam_eps;
};

// Parameters and what their update needs: all of one parameter laid out alike, everything but the numbers
// changed in place. `second` is AdamW's alone.
struct selfcls_updates {
  int64_t count;
  at::Tensor *const *params, *const *grads, *const *first, *const *second;
  const double *decay;
  const int64_t *step;
};
}

namespace {

// The parameters of one weight decay; AdamW's counts as tensors.
struct Group {
  Tensors params, grads, first, second, steps;
};

void sgd(const Group &group, const selfcls_rule &rule, double decay, double dampening) {
  if (rule.momentum == 0) { // There the fused kernel leaves the buffers alone.
    if (decay != 0) at::_foreach_add_(group.grads, group.params, decay);
    if (dampening != 0) at::_foreach_mul_(group.grads, 1 - dampening);
    for (size_t i = 0; i < group.grads.size(); ++i) group.first[i].copy_(group.grads[i]);
    at::_foreach_add_(group.params, group.grads, -rule.lr);
    return;
  }
  at::_fused_sgd_(group.params, group.grads, group.first, decay, rule.momentum, rule.lr, dampening,
                  /*nesterov=*/false, /*maximize=*/false, /*is_first_step=*/false);
}

void adamw(const Group &group, const selfcls_rule &rule, double decay) {
  at::_fused_adamw_(group.params, group.grads, group.first, group.second, {}, group.steps, rule.lr,
                    rule.beta1, rule.beta2, decay, rule.adam_eps, /*amsgrad=*/false,
                    /*maximize=*/false);
}

double length(const at::Tensor &tensor) { return at::linalg_vector_norm(tensor).item<double>(); }

// Where reading a value costs nothing. LARC's factor is what the momentum takes of the gradient, so SGD
// applies it on the way: no tensor is passed over twice but for the norms.
void one_by_one(const Group &group, const selfcls_rule &rule, double decay) {
  for (size_t i = 0; i < group.params.size(); ++i) {
    const at::Tensor &param = group.params[i], &grad = group.grads[i];
    Group one{{param}, {grad}, {group.first[i]}, {}, {}};
    double shrink = 1, rate = 1, own_decay = decay;
    double grad_norm = rule.clip > 0 || rule.larc ? length(grad) : 0;
    if (rule.clip > 0) {
      shrink = std::min(1.0, rule.clip / (grad_norm + rule.clip_eps));
      if (shrink < 1) grad.mul_(shrink);
      grad_norm *= shrink;
    }
    if (rule.larc) {
      const double param_norm = length(param);
      if (static_cast<float>(param_norm) * static_cast<float>(grad_norm) > 0) {
        rate = rule.trust * param_norm / (grad_norm + decay * param_norm + rule.larc_eps);
        if (rule.larc_clip) rate = std::min(rate / rule.lr, 1.0);
      } else {
        own_decay = 0;
      }
    }
    if (!rule.adamw) {
      sgd(one, rule, own_decay, /*dampening=*/1 - rate);
      continue;
    }
    one.second = {group.second[i]};
    one.steps = {group.steps[i]};
    if (rule.larc) {
      if (own_decay != 0) grad.add_(param, own_decay);
      grad.mul_(rate);
    }
    adamw(one, rule, rule.larc ? 0 : decay);
  }
}

// Where reading a value would wait for the device: all decisions are made there.
void together(const Group &group, const selfcls_rule &rule, double decay) {
  at::Tensor grad_norms;
  if (rule.clip > 0 || rule.larc) grad_norms = at::stack(at::_foreach_norm(group.grads));
  if (rule.clip > 0) {
    const at::Tensor shrink =
        grad_norms.add(rule.clip_eps).reciprocal().mul(rule.clip).clamp_max(1);
    at::_foreach_mul_(group.grads, shrink.unbind());
    grad_norms = grad_norms.mul(shrink);
  }
  if (rule.larc) {
    const at::Tensor param_norms = at::stack(at::_foreach_norm(group.params));
    const at::Tensor usable = param_norms.mul(grad_norms).gt(0);
    const at::Tensor divisor = param_norms.mul(decay).add(grad_norms).add(rule.larc_eps);
    at::Tensor rates = param_norms.mul(rule.trust).div(divisor);
    if (rule.larc_clip) rates = rates.div(rule.lr).clamp_max(1);
    // All decay, for a list of rates of decay would be one operation for each. Where none should, because one of the two
    // is zero, that changes nothing: a gradient of zero gets the rate 0, and of a parameter of zero the decay is zero. (So
    // a gradient counts as zero where nothing but the product of the norms vanishes.)
    rates = at::where(usable, rates, param_norms.le(grad_norms).to(rates.scalar_type()));
    if (decay != 0) at::_foreach_add_(group.grads, group.params, decay);
    at::_foreach_mul_(group.grads, rates.unbind());
    decay = 0;
  }
  if (rule.adamw) {
    adamw(group, rule, decay);
  } else {
    sgd(group, rule, decay, /*dampening=*/0);
  }
}

} // namespace

extern "C" {

// For all files of this crate.
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

// A copy, laid out as the tensor is.
char *selfcls_copy(const at::Tensor *tensor, at::Tensor **out) {
  return guarded([&] { out[0] = owned(tensor->clone()); });
}

// out: output, running mean, running variance (those given, in training changed in place), and three
// tensors for the backward pass; `implementation` is for it, too.
char *selfcls_batch_norm(const at::Tensor *input, const at::Tensor *weight, const at::Tensor *bias,
                         const at::Tensor *mean, const at::Tensor *variance, bool training,
                         double momentum, double eps, at::Tensor **out, int64_t *implementation) {
  return guarded([&] {
    auto [output, saved_mean, saved_variance, reserve, chosen] = at::_batch_norm_impl_index(
        *input, *weight, *bias, *mean, *variance, training, momentum, eps, /*cudnn_enabled=*/true);
    const at::Tensor results[] = {output, *mean, *variance, saved_mean, saved_variance, reserve};
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
    // The forward pass does the same to its input by itself; cuDNN's backward pass refuses gaps.
    const at::Tensor dense = laid_out_as(*input, *input);
    auto [input_gradient, weight_gradient, bias_gradient] = at::_batch_norm_impl_index_backward(
        implementation, dense, laid_out_as(*gradient, dense), *weight, *mean, *variance,
        *saved_mean, *saved_variance, training, eps, {want_input, want_weight, want_bias}, *reserve);
    out[0] = owned(input_gradient);
    out[1] = owned(weight_gradient);
    out[2] = owned(bias_gradient);
  });
}

// out: gradients of input, weight and bias, each undefined where it is not wanted.
char *selfcls_layer_norm_backward(const at::Tensor *gradient, const at::Tensor *input,
                                  const at::Tensor *mean, const at::Tensor *scale,
                                  const at::Tensor *weight, const at::Tensor *bias, bool want_input,
                                  bool want_weight, bool want_bias, at::Tensor **out) {
  return guarded([&] {
    auto [input_gradient, weight_gradient, bias_gradient] =
        at::native_layer_norm_backward(*gradient, *input, weight->sizes(), *mean, *scale, *weight,
                                       *bias, {want_input, want_weight, want_bias});
    out[0] = owned(input_gradient);
    out[1] = owned(weight_gradient);
    out[2] = owned(bias_gradient);
  });
}

// out: a number per tensor, its L2 norm or its largest magnitude, NaN where a value is.
char *selfcls_norms(at::Tensor *const *tensors, int64_t count, bool largest, at::Tensor **out) {
  return guarded([&] {
    const double order = largest ? std::numeric_limits<double>::infinity() : 2;
    out[0] = owned(at::stack(at::_foreach_norm(all(tensors, count), order)));
  });
}

// Multiplies tensors in place by the one value of `factor`.
char *selfcls_scale(at::Tensor *const *tensors, int64_t count, const at::Tensor *factor) {
  return guarded([&] { at::_foreach_mul_(all(tensors, count), factor->reshape({})); });
}

// Updates parameters, together or one by one.
char *selfcls_update(const selfcls_rule *rule, const selfcls_updates *updates, bool batched) {
  return guarded([&] {
    std::map<double, Group> groups;
    std::map<int64_t, at::Tensor> counts;
    for (int64_t i = 0; i < updates->count; ++i) {
      Group &group = groups[updates->decay[i]];
      const at::Tensor &param = *updates->params[i];
      group.params.push_back(param);
      group.grads.push_back(*updates->grads[i]);
      group.first.push_back(*updates->first[i]);
      if (!rule->adamw) continue;
      group.second.push_back(*updates->second[i]);
      const int64_t step = updates->step[i];
      at::Tensor &count = counts[step];
      if (!count.defined()) count = at::full({}, static_cast<double>(step), param.options());
      group.steps.push_back(count);
    }
    for (const auto &[decay, group] : groups) {
      (batched ? together : one_by_one)(group, *rule, decay);
    }
  });
}

} // extern "C"
