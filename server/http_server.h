// HttpServer serves /metrics, /healthz and /readyz on one port.
//
// Threading  Start and destruction by one thread; the callables run on its own.
// Errors     kUnavailable naming the address: it cannot be bound.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace reprise::server {

struct HttpCallbacks {
  std::function<std::string()> metrics;  // Prometheus text
  std::function<bool()> ready;
};

class HttpServer {
 public:
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(const std::string& address,
                                                           const HttpCallbacks& callbacks);
  ~HttpServer();

  int port() const;

 private:
  struct Impl;
  explicit HttpServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace reprise::server
