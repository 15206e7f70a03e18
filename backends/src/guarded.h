// How exceptions become messages: none may leave C++ for Rust.
#pragma once

#include <c10/util/Exception.h>

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

} // namespace
