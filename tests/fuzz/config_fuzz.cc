// The server's configuration: a YAML file, and "path=value" of --set, which is each
// input's first line.
#include "server/config_loader.h"
#include "tests/fuzz/fuzz.h"

namespace reprise::fuzz {
namespace {

void RequireDuration(const google::protobuf::Duration& duration) {
  Require(duration.seconds() >= 0 && duration.seconds() <= 315576000000 && duration.nanos() >= 0 &&
              duration.nanos() < 1000000000,
          "a duration that was accepted is one");
}

void Check(const config::v1::ServerConfig& config) {
  RequireDuration(config.listen().drain_timeout());
  RequireDuration(config.cache().store().flush_after_idle());
  (void)server::ValidateConfig(config).ok();
}

}  // namespace

std::vector<std::string> FuzzSeeds() {
  return {std::string(server::DefaultConfigYaml()),
          "cache.store.max_bytes=1000\n",
          "listen.drain_timeout=1h30m\n",
          "listen.drain_timeout.seconds=-5\n",
          "log.level=DEBUG\nx",
          "model: {path: a, kv_dtype: BF16}\nlisten: &a {reflection: true}\nlog: *a\n",
          "engine:\n  max_queued_requests: 7\n  max_batch_tokens: !!int 7\nlog: {level: \"INFO\", "
          "file: |\n  x\n}",
          "listen:\n  drain_timeout: 500ms\n? cache\n: {host_bytes: 0x10}\n---\n%YAML 1.2\n"};
}

}  // namespace reprise::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace reprise;
  const absl::string_view text = fuzz::Text(data, size);
  config::v1::ServerConfig from_file, from_setting;
  if (server::MergeYaml(text, "fuzz.yaml", from_file).ok()) fuzz::Check(from_file);
  if (server::MergeSetting(text.substr(0, text.find('\n')), from_setting).ok()) {
    fuzz::Check(from_setting);
  }
  return 0;
}
