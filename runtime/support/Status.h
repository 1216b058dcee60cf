// How the runtime says that something went wrong: a Status, or an Expected<T> that holds a value or a Status.
// No exception crosses the runtime's public API. An ok Status owns nothing, so returning one allocates nothing.
// Messages are lower case without a full stop; callers put where it happened in front (`withContext`).
#ifndef AMC_RUNTIME_SUPPORT_STATUS_H
#define AMC_RUNTIME_SUPPORT_STATUS_H

#include <cassert>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

namespace amc::rt {

// The values are the tools' exit codes.
enum class ErrorKind : uint8_t {
  Input = 1, // the file or the request is at fault
  Usage = 2, // wrong usage of a tool
  Limit = 3, // a limit of the machine: memory, disk, threads
};

class [[nodiscard]] Status {
public:
  Status() = default;
  Status(ErrorKind kind, std::string message) : error(new Error{kind, std::move(message)}) {}
  // Allocates nothing, nor do its copies.
  static Status outOfMemory() {
    Status status;
    status.error.reset(memoryError());
    return status;
  }
  Status(Status &&) = default;
  Status &operator=(Status &&) = default;
  Status(const Status &other) : error(copy(other.error.get())) {}
  Status &operator=(const Status &other) {
    if (this != &other)
      error.reset(copy(other.error.get()));
    return *this;
  }

  bool ok() const { return !error; }
  ErrorKind kind() const {
    assert(error && "an ok status has no kind");
    return error->kind;
  }
  int exitCode() const { return error ? static_cast<int>(error->kind) : 0; }
  const std::string &message() const {
    static const std::string none;
    return error ? error->message : none;
  }
  // "context: message"; an ok status stays ok.
  Status withContext(std::string_view context) && {
    if (error && error.get() != memoryError())
      error->message = std::string(context) + ": " + error->message;
    return std::move(*this);
  }

private:
  struct Error {
    ErrorKind kind;
    std::string message;
  };
  static Error *memoryError() {
    static Error shared{ErrorKind::Limit, "out of memory"}; // short enough for a string without an allocation
    return &shared;
  }
  static Error *copy(Error *error) { return !error || error == memoryError() ? error : new Error(*error); }
  struct Delete {
    void operator()(Error *error) const {
      if (error != memoryError())
        delete error;
    }
  };
  std::unique_ptr<Error, Delete> error;
};

template <class T> class [[nodiscard]] Expected {
public:
  Expected(Status failure) : failure(std::move(failure)) {
    assert(!this->failure.ok() && "an expected value is missing without an error");
  }
  template <class U = T>
    requires std::is_constructible_v<T, U &&> &&
             (!std::is_same_v<std::remove_cvref_t<U>, Expected>) &&
             (!std::is_same_v<std::remove_cvref_t<U>, Status>)
  Expected(U &&made) : held(std::forward<U>(made)) {}

  bool ok() const { return held.has_value(); }
  const Status &status() const & { return failure; }
  Status status() && { return std::move(failure); }
  T &value() & {
    assert(held);
    return *held;
  }
  const T &value() const & {
    assert(held);
    return *held;
  }
  T value() && {
    assert(held);
    return std::move(*held);
  }
  T &operator*() & { return value(); }
  const T &operator*() const & { return value(); }
  T *operator->() { return &value(); }
  const T *operator->() const { return &value(); }

private:
  std::optional<T> held;
  Status failure;
};

namespace detail {
inline void append(std::string &out, std::string_view piece) { out += piece; }
inline void append(std::string &out, const char *piece) { out += piece; }
inline void append(std::string &out, const std::string &piece) { out += piece; }
inline void append(std::string &out, char piece) { out += piece; }
template <class T>
  requires std::is_arithmetic_v<T>
void append(std::string &out, T piece) {
  out += std::to_string(piece);
}
} // namespace detail

// Joins text and numbers.
template <class... Pieces> std::string text(const Pieces &...pieces) {
  std::string out;
  (detail::append(out, pieces), ...);
  return out;
}
template <class... Pieces> Status inputError(const Pieces &...pieces) {
  return Status(ErrorKind::Input, text(pieces...));
}
template <class... Pieces> Status limitError(const Pieces &...pieces) {
  return Status(ErrorKind::Limit, text(pieces...));
}

} // namespace amc::rt

#endif
