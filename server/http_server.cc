#include "server/http_server.h"

#include <httplib.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace reprise::server {

struct HttpServer::Impl {
  httplib::Server server;
  int port = 0;
  std::atomic<bool> ended{false};
  std::thread thread;
};

HttpServer::HttpServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

HttpServer::~HttpServer() {
  impl_->server.stop();
  impl_->thread.join();
}

int HttpServer::port() const { return impl_->port; }

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(const std::string& address,
                                                              const HttpCallbacks& callbacks) {
  const size_t colon = address.rfind(':');
  int port = 0;
  if (colon == std::string::npos || !absl::SimpleAtoi(address.substr(colon + 1), &port)) {
    return absl::InvalidArgumentError(absl::StrCat("listen.http: \"", address, "\""));
  }
  const std::string host = address.substr(0, colon);
  auto impl = std::make_unique<Impl>();
  httplib::Server& server = impl->server;
  server.new_task_queue = [] { return new httplib::ThreadPool(2); };
  server.set_payload_max_length(4096);
  server.set_read_timeout(5, 0);
  // Without SO_REUSEPORT, so that a busy port is an error.
  server.set_socket_options([](socket_t socket) {
    const int yes = 1;
    setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
  });
  server.Get("/metrics", [callbacks](const httplib::Request&, httplib::Response& response) {
    response.set_content(callbacks.metrics(), "text/plain; version=0.0.4");
  });
  server.Get("/healthz", [](const httplib::Request&, httplib::Response& response) {
    response.set_content("ok\n", "text/plain");
  });
  server.Get("/readyz", [callbacks](const httplib::Request&, httplib::Response& response) {
    const bool ready = callbacks.ready();
    response.status = ready ? 200 : 503;
    response.set_content(ready ? "ready\n" : "not ready\n", "text/plain");
  });
  if (port == 0) {
    impl->port = server.bind_to_any_port(host.c_str());
  } else {
    impl->port = server.bind_to_port(host.c_str(), port) ? port : -1;
  }
  if (impl->port <= 0) {
    return absl::UnavailableError(absl::StrCat("listen.http: cannot bind ", address));
  }
  impl->thread = std::thread([raw = impl.get()] {
    raw->server.listen_after_bind();
    raw->ended = true;
  });
  // A stop that came before it runs would be lost, and the server never end.
  while (!server.is_running() && !impl->ended) {
    std::this_thread::sleep_for(std::chrono::microseconds(100));
  }
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(impl)));
}

}  // namespace reprise::server
