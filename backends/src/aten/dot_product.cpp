// Attention by whichever kernel libtorch has for the device and the type, and the gradient that libtorch itself takes from
// it: what a kernel keeps for that is its own affair.

#include "../guarded.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>

#include <cstdint>
#include <utility>

extern "C" {

// The two ends of a piece of libtorch's own graph.
struct selfcls_attended {
  at::Tensor input, output;
};

// qkv: [batch, tokens, 3 * heads * width], without gaps. out: what each token sees, [batch, tokens, heads * width]. `kept`,
// where there is one, is for the gradient, and shares its values with `qkv` and with what `out` is given.
char *selfcls_attend(const at::Tensor *qkv, int64_t heads, at::Tensor **out, selfcls_attended **kept) {
  return guarded([&] {
    const c10::AutoGradMode graph(kept != nullptr);
    const at::Tensor input = qkv->detach().requires_grad_(kept != nullptr);
    const int64_t batch = input.size(0), tokens = input.size(1);
    const auto parts = input.view({batch, tokens, 3, heads, -1}).permute({2, 0, 3, 1, 4}).unbind(0);
    const at::Tensor mixed = at::scaled_dot_product_attention(parts[0], parts[1], parts[2]);
    at::Tensor output = mixed.transpose(1, 2).reshape({batch, tokens, -1});
    out[0] = new at::Tensor(output.detach());
    if (kept != nullptr) *kept = new selfcls_attended{input, std::move(output)};
  });
}

// out: the gradient of qkv.
char *selfcls_attended_gradient(const selfcls_attended *kept, const at::Tensor *gradient,
                                at::Tensor **out) {
  return guarded([&] {
    const auto gradients = torch::autograd::grad({kept->output}, {kept->input}, {*gradient},
                                                 /*retain_graph=*/true);
    out[0] = new at::Tensor(gradients[0]);
  });
}

void selfcls_attended_free(selfcls_attended *kept) { delete kept; }

} // extern "C"
