// libtorch's process groups: a store that every rank reaches, Gloo between CPUs, NCCL between GPUs.
//
// As in aten/ops.cpp, no exception leaves this file: every function returns null, or the message of what
// was thrown, which the caller gives back to `selfcls_free_message`. Objects made here are destroyed here.

#include "../guarded.h"

#include <ATen/core/Tensor.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <c10/util/Logging.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#ifdef USE_C10D_NCCL
#include <c10/util/env.h>
#include <torch/csrc/cuda/nccl.h>
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#endif

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <iostream>
#include <mutex>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#ifndef _WIN32
#include <fcntl.h>
#include <unistd.h>
#endif

namespace {

std::chrono::milliseconds milliseconds(uint64_t count) {
  return std::chrono::milliseconds(static_cast<int64_t>(count));
}

// gloo reports its connections on standard output, where this program's results go. Several groups may
// be made at a time, and each waits for other processes: the first to come turns the output away, the last
// to go brings it back.
class QuietOutput {
#ifndef _WIN32
 public:
  QuietOutput() {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (depth_++ > 0) return;
    flush();
    kept_ = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 0);
    const int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (kept_ >= 0 && nowhere >= 0) dup2(nowhere, STDOUT_FILENO);
    if (nowhere >= 0) close(nowhere);
  }
  ~QuietOutput() {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (--depth_ > 0) return;
    flush();
    if (kept_ < 0) return;
    dup2(kept_, STDOUT_FILENO);
    close(kept_);
  }

 private:
  static void flush() {
    std::cout.flush();
    std::fflush(stdout);
  }
  static inline std::mutex mutex_;
  static inline int depth_ = 0;
  static inline int kept_ = -1;
#endif
};

// c10d warns of every attempt to connect and of every lost connection, with a trace of its own calls; what
// matters of it comes back as an error. While the store is opened, that is all of it; later there are
// errors that NCCL's watchdog has no other way to tell. TORCH_CPP_LOG_LEVEL has the last word.
void log_from(int level) {
  if (std::getenv("TORCH_CPP_LOG_LEVEL") == nullptr) FLAGS_caffe2_log_level = level;
}
constexpr int kErrors = 2;
constexpr int kNothing = 4;

struct LogErrorsLater {
  LogErrorsLater() { log_from(kNothing); }
  ~LogErrorsLater() { log_from(kErrors); }
};

// The options of an operation whose result is needed next. NCCL then works on the stream that the computation is on, where
// nothing has to wait for anything, and there is no work to be waited for; Gloo does not look at it.
template <typename Options> Options in_order() {
  Options options;
  options.asyncOp = false;
  return options;
}

void finish(const c10::intrusive_ptr<c10d::Work> &work) {
  if (work) work->wait();
}

// The most bytes that a rank sends in one step; beyond that a ring sends less, or as much.
constexpr uint64_t kInOneStep = 1 << 20;

// Gloo's rings cut a tensor in two pieces per rank. Each is a message, announced by another one, and most wait for the one
// before: 2 (W - 1) steps for a sum. What is small is sooner there, and at less expense, where every rank sends all of it
// to every other at once.
bool goes_in_one_step(const c10d::Backend &backend, const at::Tensor &tensor) {
  const uint64_t others = static_cast<uint64_t>(backend.getSize() - 1);
  return tensor.is_cpu() && tensor.numel() > 0 && tensor.nbytes() * others <= kInOneStep;
}

// The ranks' tensors one after the other, into `all`.
void exchange(c10d::Backend &backend, const at::Tensor &tensor, at::Tensor &all) {
  at::Tensor copies = tensor.reshape({1, -1}).repeat({backend.getSize(), 1});
  at::Tensor rows = all.view({backend.getSize(), -1});
  std::vector<int64_t> equal;
  finish(backend.alltoall_base(rows, copies, equal, equal));
}

// Rank by rank and element by element: the same bits on all of them, whatever their processors are.
void reduce(const at::Tensor &all, bool maximum, at::Tensor &out) {
  at::Tensor reduced = out.view(-1);
  reduced.copy_(all[0]);
  for (int64_t rank = 1; rank < all.size(0); ++rank) {
    if (maximum) {
      at::maximum_out(reduced, reduced, all[rank]);
    } else {
      reduced.add_(all[rank]);
    }
  }
}

// For groups that are made: limits of time count on while a process is stopped, so that a job that is suspended and goes on would
// fail. The watchers know better, and end the process where it waits in vain.
constexpr std::chrono::hours kNoLimit(24 * 365);

#ifdef USE_C10D_NCCL
// The options of a group hold a struct of nccl.h by value: they are allocated here and filled in libtorch, which
// must have been compiled with the same one. Releases of one minor version do not change it.
void check_nccl() {
  const uint64_t theirs = torch::cuda::nccl::version();
  const uint64_t major = theirs >> 32, minor = (theirs >> 16) & 0xffff;
  TORCH_CHECK(major == NCCL_MAJOR && minor == NCCL_MINOR, "this build was compiled with the headers of NCCL ", NCCL_MAJOR,
              ".", NCCL_MINOR, ", and libtorch with those of NCCL ", major, ".", minor,
              ": give its build the headers of that version, first in SELFCLS_NCCL_INCLUDE");
}

#endif

} // namespace

struct selfcls_store {
  c10::intrusive_ptr<c10d::Store> store;
};

struct selfcls_group {
  c10::intrusive_ptr<c10d::Backend> backend;
  // Whether its communicator has been shut down or aborted.
  bool over = false;
};

// A group as it is asked whether it has failed. Whoever asks may do so after it has been freed.
struct selfcls_link {
  c10::intrusive_ptr<c10d::Backend> backend;
};

struct selfcls_mark {
  c10::Event event;
};

struct selfcls_work {
  c10::intrusive_ptr<c10d::Work> work;
};

extern "C" {

bool selfcls_c10d_has_nccl() {
#ifdef USE_C10D_NCCL
  return true;
#else
  return false;
#endif
}

// Where something goes wrong, c10d's own watchdog would kill the process (SIGABRT), with a message that names no rank, and tell
// the others to do so by a key of the store that outlives them where the launcher keeps it. Here ranks are watched over
// otherwise, and a group that has failed only says so (`selfcls_link_lost`). c10d reads all this from the environment, while it makes
// a group; it is written before this program has threads that could read the environment meanwhile.
char *selfcls_leave_failures_to_us() {
  return guarded([&] {
#ifdef USE_C10D_NCCL
    // torchrun sets it for all its processes, to 1, whatever they are: that it is set says nothing of what its user wants.
    c10::utils::set_env("TORCH_NCCL_ASYNC_ERROR_HANDLING", "0");
    // Who sets these is looking for a mistake, and may have what they ask for.
    const char *const settings[][2] = {
        {"TORCH_NCCL_DUMP_ON_TIMEOUT", "0"},          // Listens to that key.
        {"TORCH_NCCL_ENABLE_MONITORING", "0"},        // Kills, too, where the watchdog waits for long.
        {"TORCH_NCCL_WAIT_TIMEOUT_DUMP_MILSEC", "0"}, // How long it waits for what is written down, four times over.
        {"TORCH_NCCL_RETHROW_CUDA_ERRORS", "0"},      // The training gets them as well, and can say more.
    };
    for (const auto &[name, value] : settings) c10::utils::set_env(name, value, /*overwrite=*/false);
#endif
  });
}

// `prefix` comes before every key.
char *selfcls_store_open(const char *host, uint16_t port, bool server, uint64_t timeout,
                         const char *prefix, selfcls_store **out) {
  return guarded([&] {
    const LogErrorsLater quiet;
    c10d::TCPStoreOptions options;
    options.port = port;
    options.isServer = server;
    options.waitWorkers = false;
    options.timeout = milliseconds(timeout);
    auto store = c10::make_intrusive<c10d::TCPStore>(host, options);
    *out = new selfcls_store{c10::make_intrusive<c10d::PrefixStore>(prefix, std::move(store))};
  });
}

char *selfcls_store_set(selfcls_store *store, const char *key, const char *value) {
  return guarded([&] { store->store->set(key, std::string(value)); });
}

// value: null where there is no such key, otherwise to be given back to `selfcls_free_message`.
char *selfcls_store_get(selfcls_store *store, const char *key, char **value) {
  return guarded([&] {
    *value = nullptr;
    if (store->store->check({key})) *value = message(store->store->get_to_str(key).c_str());
  });
}

// The values of `prefix`0, `prefix`1 and so on, all of which exist, each followed by a line break; to be given back to
// `selfcls_free_message`.
char *selfcls_store_get_all(selfcls_store *store, const char *prefix, int count, char **values) {
  return guarded([&] {
    std::vector<std::string> keys;
    for (int number = 0; number < count; ++number) keys.push_back(prefix + std::to_string(number));
    std::string lines;
    for (const auto &value : store->store->multiGet(keys)) {
      lines.append(value.begin(), value.end());
      lines.push_back('\n');
    }
    *values = message(lines.c_str());
  });
}

// `sum`: the number that the key then has.
char *selfcls_store_add(selfcls_store *store, const char *key, int64_t amount, int64_t *sum) {
  return guarded([&] { *sum = store->store->add(key, amount); });
}

char *selfcls_store_append(selfcls_store *store, const char *key, const char *text) {
  return guarded([&] {
    store->store->append(key, std::vector<uint8_t>(text, text + std::strlen(text)));
  });
}

// The same store through the same connection, where `prefix` comes before every key.
char *selfcls_store_below(selfcls_store *store, const char *prefix, selfcls_store **out) {
  return guarded(
      [&] { *out = new selfcls_store{c10::make_intrusive<c10d::PrefixStore>(prefix, store->store)}; });
}

// How long the store may take to answer from now on.
char *selfcls_store_timeout(selfcls_store *store, uint64_t timeout) {
  return guarded([&] { store->store->setTimeout(milliseconds(timeout)); });
}

void selfcls_store_free(selfcls_store *store) { delete store; }

// A process group of `size` ranks, all of which make it under the same name. `device` is the GPU's number for NCCL, negative for
// Gloo, which may take as long as `timeout` to make it, and listens at `interfaces` (names with commas between them), at
// `address`, or at what this machine's name stands for where both are null.
char *selfcls_group_new(selfcls_store *store, const char *name, int rank, int size, uint64_t timeout,
                        int device, const char *interfaces, const char *address,
                        selfcls_group **out) {
  return guarded([&] {
    QuietOutput quiet;
    auto own = c10::make_intrusive<c10d::PrefixStore>(name, store->store);
    if (device >= 0) {
#ifdef USE_C10D_NCCL
      check_nccl();
      auto options = c10d::ProcessGroupNCCL::Options::create();
      options->timeout = kNoLimit;
      auto group = c10::make_intrusive<c10d::ProcessGroupNCCL>(own, rank, size, options);
      group->setBoundDeviceId(at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(device)));
      group->eagerConnectSingleDevice(at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(device)));
      *out = new selfcls_group{std::move(group)};
#else
      C10_THROW_ERROR(Error, "built without NCCL");
#endif
      return;
    }
    auto options = c10d::ProcessGroupGloo::Options::create(milliseconds(timeout));
    if (interfaces != nullptr) {
      std::istringstream names(interfaces);
      for (std::string name; std::getline(names, name, ',');) {
        if (!name.empty()) options->devices.push_back(c10d::ProcessGroupGloo::createDeviceForInterface(name));
      }
    } else if (address != nullptr) {
      options->devices.push_back(c10d::ProcessGroupGloo::createDeviceForHostname(address));
    }
    if (options->devices.empty()) options->devices.push_back(c10d::ProcessGroupGloo::createDefaultDevice());
    options->threads = 2 * static_cast<int>(options->devices.size());
    auto group = c10::make_intrusive<c10d::ProcessGroupGloo>(own, rank, size, options);
    group->setTimeout(kNoLimit);
    *out = new selfcls_group{std::move(group)};
  });
}

// In place.
char *selfcls_group_all_reduce(selfcls_group *group, at::Tensor *tensor, bool maximum) {
  return guarded([&] {
    if (goes_in_one_step(*group->backend, *tensor)) {
      at::Tensor all = at::empty({group->backend->getSize(), tensor->numel()}, tensor->options());
      exchange(*group->backend, *tensor, all);
      reduce(all, maximum, *tensor);
      return;
    }
    std::vector<at::Tensor> tensors{*tensor};
    auto options = in_order<c10d::AllreduceOptions>();
    options.reduceOp = maximum ? c10d::ReduceOp::MAX : c10d::ReduceOp::SUM;
    finish(group->backend->allreduce(tensors, options));
  });
}

// As `selfcls_group_all_reduce` for a sum, which goes on after the return. The tensor is not to be touched before
// `selfcls_work_wait` has returned.
char *selfcls_group_begin_sum(selfcls_group *group, at::Tensor *tensor, selfcls_work **out) {
  return guarded([&] {
    std::vector<at::Tensor> tensors{*tensor};
    *out = new selfcls_work{group->backend->allreduce(tensors, c10d::AllreduceOptions())};
  });
}

// On a GPU what is computed after the return waits, and not the caller.
char *selfcls_work_wait(selfcls_work *work) {
  return guarded([&] { finish(work->work); });
}

void selfcls_work_free(selfcls_work *work) { delete work; }

// In place.
char *selfcls_group_broadcast(selfcls_group *group, at::Tensor *tensor, int root) {
  return guarded([&] {
    std::vector<at::Tensor> tensors{*tensor};
    auto options = in_order<c10d::BroadcastOptions>();
    options.rootRank = root;
    options.rootTensor = 0;
    finish(group->backend->broadcast(tensors, options));
  });
}

// `tensor` of every rank, one after the other, into `out`.
char *selfcls_group_all_gather(selfcls_group *group, at::Tensor *tensor, at::Tensor *out) {
  return guarded([&] {
    if (goes_in_one_step(*group->backend, *tensor)) {
      exchange(*group->backend, *tensor, *out);
    } else {
      finish(group->backend->_allgather_base(*out, *tensor, in_order<c10d::AllgatherOptions>()));
    }
  });
}

// Lets what is under way come to its end before it is freed; all ranks of the group do so.
char *selfcls_group_shut_down(selfcls_group *group) {
  return guarded([&] {
    group->backend->shutdown();
    group->over = true;
  });
}

// Ends what is under way in all these groups, so that the other ranks see that nothing will come. All at the same time: a
// communicator that is aborted waits for the GPU, on which a kernel of another may wait for a rank that is gone. Gloo's
// connections are closed when their group is freed.
char *selfcls_groups_abort(selfcls_group *const *groups, size_t count) {
  return guarded([&] {
    std::vector<std::thread> threads;
    threads.reserve(count);
    for (size_t number = 0; number < count; ++number) {
      selfcls_group *const group = groups[number];
      if (group->over) continue;
      group->over = true;
      // What an aborted communicator has to say helps nobody.
      const auto abort = [group] { std::free(guarded([&] { group->backend->abort(); })); };
      try {
        threads.emplace_back(abort);
      } catch (const std::exception &) { // No more threads, or no memory for one: the others run, and are waited for below.
        abort();
      }
    }
    for (std::thread &thread : threads) thread.join();
  });
}

void selfcls_group_free(selfcls_group *group) { delete group; }

char *selfcls_link_new(const selfcls_group *group, selfcls_link **out) {
  return guarded([&] { *out = new selfcls_link{group->backend}; });
}

// Whether NCCL's watchdog has found an operation to have failed. That is no more than a look at what it has written down.
char *selfcls_link_lost(const selfcls_link *link, bool *lost) {
  return guarded([&] { *lost = link->backend->getError() != c10d::ErrorType::SUCCESS; });
}

void selfcls_link_free(selfcls_link *link) { delete link; }

// A mark behind everything that the GPU `device` has been given.
char *selfcls_mark_new(int device, selfcls_mark **out) {
  return guarded([&] {
    const c10::Device gpu(c10::DeviceType::CUDA, static_cast<c10::DeviceIndex>(device));
    const c10::DeviceGuard guard(gpu);
    selfcls_mark mark{c10::Event(c10::DeviceType::CUDA)};
    mark.event.record(c10::impl::VirtualGuardImpl(c10::DeviceType::CUDA).getStream(gpu));
    *out = new selfcls_mark(std::move(mark));
  });
}

char *selfcls_mark_reached(const selfcls_mark *mark, bool *reached) {
  return guarded([&] { *reached = mark->event.query(); });
}

void selfcls_mark_free(selfcls_mark *mark) { delete mark; }

// Ends the process as it is: what a normal end would wait for may never come.
void selfcls_end_process(int code) { std::_Exit(code); }

} // extern "C"
