// For tests, and in builds with SELFCLS_BUILD_WAITS=1 only: what makes the host wait for a GPU. Needs CUDA's headers.

#include "../guarded.h"

#include <c10/cuda/CUDAFunctions.h>

extern "C" {

// Whether ATen throws, in all threads, where it would wait for a GPU.
char *selfcls_refuse_waits(bool refuse) {
  return guarded([&] {
    using c10::cuda::SyncDebugMode;
    const auto mode = refuse ? SyncDebugMode::L_ERROR : SyncDebugMode::L_DISABLED;
    c10::cuda::warning_state().set_sync_debug_mode(mode);
  });
}

// What ATen does before it waits.
char *selfcls_about_to_wait() {
  return guarded([] {
    if (c10::cuda::warning_state().get_sync_debug_mode() != c10::cuda::SyncDebugMode::L_DISABLED) {
      c10::cuda::warn_or_error_on_sync();
    }
  });
}

} // extern "C"
