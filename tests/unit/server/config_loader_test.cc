#include "server/config_loader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"

namespace reprise::server {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

absl::Status Merge(absl::string_view yaml) {
  config::v1::ServerConfig config;
  return MergeYaml(yaml, "x.yaml", config);
}

std::string Repeat(const std::string& text, int count) {
  std::string out;
  for (int i = 0; i < count; ++i) out += text;
  return out;
}

TEST(ConfigLoaderTest, TheDefaultLoadsAndIsValid) {
  const auto config = LoadConfig("", {});
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->listen().inference(), "127.0.0.1:8470");
  EXPECT_EQ(config->listen().drain_timeout().seconds(), 30);
  EXPECT_EQ(config->cache().retrieval_mode(), config::v1::RETRIEVAL_MODE_HYBRID);
  EXPECT_TRUE(config->cache().store().enabled());
}

TEST(ConfigLoaderTest, TheCompiledInDefaultIsTheFile) {
  std::ifstream file("config/default.yaml");
  ASSERT_TRUE(file.good()) << "run from the repository's root";
  EXPECT_EQ(DefaultConfigYaml(), std::string(std::istreambuf_iterator<char>(file), {}));
}

TEST(ConfigLoaderTest, YamlGoesOverWhatIsThere) {
  config::v1::ServerConfig config = *LoadConfig("", {});
  ASSERT_TRUE(MergeYaml("cache:\n  host_bytes: 2097152\n  store: {enabled: false}\n"
                        "log: {level: ERROR}\nmodel:\n",
                        "x.yaml", config)
                  .ok());
  EXPECT_EQ(config.cache().host_bytes(), 2097152);
  EXPECT_FALSE(config.cache().store().enabled());
  EXPECT_EQ(config.log().level(), config::v1::LOG_LEVEL_ERROR);
  EXPECT_EQ(config.cache().store().path(), "reprise-data") << "what is not named stays";
  EXPECT_TRUE(Merge("").ok());
  EXPECT_TRUE(Merge("# nothing\n").ok());
  EXPECT_TRUE(Merge("log: {level: LOG_LEVEL_ERROR}").ok()) << "the schema's own name";
  EXPECT_TRUE(Merge("log: &anchor {level: ERROR}").ok()) << "an anchor nobody uses is harmless";
}

TEST(ConfigLoaderTest, RefusesBadYamlNamingLinePathAndProblem) {
  struct Case {
    const char* yaml;
    const char* where;
    const char* problem;
  };
  const Case cases[] = {
      {"lisden: {}", "x.yaml:1: lisden: ", "unknown key"},
      {"\ncache:\n  store:\n    pth: x\n", "x.yaml:4: cache.store.pth: ", "unknown key"},
      {"log: {level: INFO, level: INFO}", "x.yaml:1: log.level: ", "given twice"},
      {"log: {}\nlog: {}\n", "x.yaml:2: log: ", "given twice"},
      {"listen: 7", "x.yaml:1: listen: ", "expected a map"},
      {"listen: [1]", "x.yaml:1: listen: ", "expected a map"},
      {"[1, 2]", "x.yaml:1: document: ", "expected a map"},
      {"text", "x.yaml:1: document: ", "expected a map"},
      {"{[1]: 2}", "x.yaml:1: document: ", "expected a key"},
      {"log: {file: [a]}", "x.yaml:1: log.file: ", "expected a single value"},
      {"log: {file: }", "x.yaml:1: log.file: ", "expected a single value"},
      {"listen: {reflection: yes}",
       "x.yaml:1: listen.reflection: ", "expected true or false, found \"yes\""},
      {"model: {thread_count: two}",
       "x.yaml:1: model.thread_count: ", "expected an integer, found \"two\""},
      {"model: {thread_count: 1.5}", "x.yaml:1: model.thread_count: ", "found \"1.5\""},
      {"model: {thread_count: 2147483648}", "x.yaml:1: model.thread_count: ",
       "expected an integer of -2147483648 to 2147483647, found \"2147483648\""},
      {"cache: {host_bytes: 9223372036854775808}",
       "x.yaml:1: cache.host_bytes: ", "below 2^63, found \"9223372036854775808\""},
      {"cache: {host_bytes: 1GiB}", "x.yaml:1: cache.host_bytes: ", "found \"1GiB\""},
      {"listen: {drain_timeout: 30}", "x.yaml:1: listen.drain_timeout: ", "found \"30\""},
      {"listen: {drain_timeout: soon}",
       "x.yaml:1: listen.drain_timeout: ", "expected a duration of 0s to 24h"},
      {"listen: {drain_timeout: -1s}", "x.yaml:1: listen.drain_timeout: ", "found \"-1s\""},
      {"listen: {drain_timeout: 25h}", "x.yaml:1: listen.drain_timeout: ", "0s to 24h"},
      {"listen: {drain_timeout: inf}", "x.yaml:1: listen.drain_timeout: ", "found \"inf\""},
      {"listen: {drain_timeout: {seconds: 1}}",
       "x.yaml:1: listen.drain_timeout: ", "expected a duration"},
      {"log: {level: LOUD}",
       "x.yaml:1: log.level: ", "expected one of DEBUG, INFO, WARNING, ERROR, found \"LOUD\""},
      {"log: {level: UNSPECIFIED}", "x.yaml:1: log.level: ", "expected one of"},
      {"log: {level: info}", "x.yaml:1: log.level: ", "expected one of"},
      {"log: {level: 1}", "x.yaml:1: log.level: ", "expected one of"},
      {"a: b: c", "x.yaml:1: ", "illegal map value"},
      {"log: {", "x.yaml:", "end of map flow"},
      {"log: {}\n---\nlog: {}\n", "x.yaml:", "more than one document"},
      {"log: &a {level: INFO}\nmodel: *a\n", "x.yaml:2: ", "aliases (*name) are not allowed"},
      {"log: *missing\n", "x.yaml:1: ", "anchor"},
  };
  for (const Case& c : cases) {
    const absl::Status status = Merge(c.yaml);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << c.yaml;
    EXPECT_THAT(std::string(status.message()), AllOf(StartsWith(c.where), HasSubstr(c.problem)))
        << c.yaml;
  }
}

TEST(ConfigLoaderTest, RefusesDeepNestingOfEveryKind) {
  for (const char* level : {"[", "{a: ", "- ", "? ", "[{a: "}) {
    for (const int depth : {17, 600, 100000}) {
      const absl::Status status = Merge(Repeat(level, depth));
      EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << level << depth;
      EXPECT_THAT(std::string(status.message()), HasSubstr("nested deeper than 16 levels"))
          << level << depth;
    }
  }
  EXPECT_THAT(std::string(Merge(Repeat("[", 16) + Repeat("]", 16)).message()),
              HasSubstr("expected a map"))
      << "sixteen levels are read";
}

TEST(ConfigLoaderTest, RefusesAMillionLaughs) {
  std::string yaml = "a: &a [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n";
  for (char c = 'b'; c <= 'i'; ++c) {
    const std::string before(1, static_cast<char>(c - 1));
    absl::StrAppend(&yaml, std::string(1, c), ": &", std::string(1, c), " [*", before,
                    Repeat(", *" + before, 8), "]\n");
  }
  const absl::Status status = Merge(yaml);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(), "x.yaml:2: aliases (*name) are not allowed");
}

TEST(ConfigLoaderTest, RefusesMoreThanOneMebibyte) {
  const std::string comment = "#" + std::string((1 << 20) - 1, 'x');
  EXPECT_TRUE(Merge(comment).ok());
  const absl::Status status = Merge(comment + "x");
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(), "x.yaml: more than 1048576 bytes");
}

TEST(ConfigLoaderTest, SettingsGoOverTheFile) {
  const auto config =
      LoadConfig("", {"cache.store.max_bytes=1000", "log.level=DEBUG", "listen.drain_timeout=1m30s",
                      "log.file=a=b: c", "listen.reflection=false", "log.level=ERROR"});
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->cache().store().max_bytes(), 1000);
  EXPECT_EQ(config->log().level(), config::v1::LOG_LEVEL_ERROR) << "the last one counts";
  EXPECT_EQ(config->listen().drain_timeout().seconds(), 90);
  EXPECT_EQ(config->log().file(), "a=b: c");
  EXPECT_FALSE(config->listen().reflection());
}

TEST(ConfigLoaderTest, RefusesBadSettingsNamingThem) {
  const std::pair<const char*, const char*> cases[] = {
      {"log.level", "--set log.level: expected path=value"},
      {"", "expected path=value"},
      {"=x", "unknown key"},
      {"log.lvl=INFO", "--set log.lvl: unknown key"},
      {"log.level.x=INFO", "--set log.level.x: unknown key"},
      {"listen.drain_timeout.seconds=5", "--set listen.drain_timeout.seconds: unknown key"},
      {"log=INFO", "--set: log: expected a map"},
      {"log.level=LOUD", "--set: log.level: expected one of DEBUG"},
      {"model.thread_count=many", "--set: model.thread_count: expected an integer"},
  };
  for (const auto& [setting, problem] : cases) {
    const auto config = LoadConfig("", {setting});
    EXPECT_EQ(config.status().code(), absl::StatusCode::kInvalidArgument) << setting;
    EXPECT_THAT(std::string(config.status().message()), HasSubstr(problem));
  }
}

TEST(ConfigLoaderTest, RefusesValuesOutOfRangeNamingPathValueAndLimit) {
  const std::pair<const char*, const char*> cases[] = {
      {"listen.max_concurrent_rpcs=2", "listen.max_concurrent_rpcs: 2, expected 3 to 100000"},
      {"listen.max_concurrent_rpcs=288",
       "listen.max_concurrent_rpcs: 288, expected more than engine.max_queued_requests 256 + "
       "engine.max_running_sequences 32"},
      {"model.thread_count=-1", "model.thread_count: -1, expected 0 to 256"},
      {"engine.max_decode_slowdown_percent=0",
       "engine.max_decode_slowdown_percent: 0, expected 1 to 100000"},
      {"engine.max_step_draft_tokens=-1", "engine.max_step_draft_tokens: -1, expected 0 to 65536"},
      {"generation.speculation.max_draft_tokens=0",
       "generation.speculation.max_draft_tokens: 0, expected 1 to 256"},
      {"generation.speculation.mode=ON", "expected one of OFF, PROMPT_LOOKUP, found \"ON\""},
      {"engine.max_batch_tokens=65537", "engine.max_batch_tokens: 65537, expected 1 to 65536"},
      {"cache.host_bytes=1", "cache.host_bytes: 1, expected 1048576 to 1125899906842624"},
      {"listen.http=8472", "listen.http: \"8472\", expected host:port"},
      {"listen.http=:8472", "listen.http: \":8472\", expected host:port"},
      {"listen.admin=localhost:65536", "a port of 0 to 65535"},
      {"listen.admin=localhost:-1", "a port of 0 to 65535"},
      {"listen.admin=localhost:", "a port of 0 to 65535"},
      {"model.path=", "model.path: empty"},
      {"cache.similarity.encoder_path=", "cache.similarity.encoder_path: empty"},
      {"model.kv_dtype=INT8", "model.kv_dtype: INT8, expected FP32, BF16 or FP16"},
      {"cache.store.codec=INT8",
       "cache.store.codec: INT8, which changes replies: it needs "
       "model.exactness: BEST_EFFORT"},
  };
  for (const auto& [setting, problem] : cases) {
    const auto config = LoadConfig("", {setting});
    EXPECT_EQ(config.status().code(), absl::StatusCode::kInvalidArgument) << setting;
    EXPECT_THAT(std::string(config.status().message()), HasSubstr(problem));
  }
  std::vector<std::string> rounded = {"cache.store.codec=INT8", "model.exactness=BEST_EFFORT",
                                      "model.kv_dtype=BF16"};
  EXPECT_TRUE(LoadConfig("", rounded).ok());
  rounded.push_back("cache.shadow_verify_percent=1");
  EXPECT_THAT(std::string(LoadConfig("", rounded).status().message()),
              HasSubstr("cache.shadow_verify_percent: 1, expected 0 with cache.store.codec: INT8"));
  EXPECT_TRUE(LoadConfig("", {"listen.max_concurrent_rpcs=289"}).ok());
  EXPECT_TRUE(
      LoadConfig("", {"cache.similarity.enabled=false", "cache.similarity.encoder_path="}).ok())
      << "an encoder that is not used needs no path";
  const std::string semantic = "cache.retrieval_mode=SEMANTIC";
  EXPECT_TRUE(LoadConfig("", {semantic}).ok());
  EXPECT_FALSE(LoadConfig("", {semantic, "cache.similarity.enabled=false"}).ok());
}

class ConfigFileTest : public ::testing::Test {
 protected:
  ConfigFileTest() : path_(::testing::TempDir() + "/config-" + std::to_string(getpid())) {}
  ~ConfigFileTest() override { std::filesystem::remove_all(path_); }

  const std::string path_;
};

TEST_F(ConfigFileTest, AFileGoesOverTheDefaultAndSettingsOverBoth) {
  std::ofstream(path_) << "engine: {max_batch_tokens: 64, max_queued_requests: 5}";
  const auto config = LoadConfig(path_, {"engine.max_queued_requests=6"});
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->engine().max_batch_tokens(), 64);
  EXPECT_EQ(config->engine().max_queued_requests(), 6);
  EXPECT_EQ(config->engine().max_running_sequences(), 32);
}

TEST_F(ConfigFileTest, ErrorsNameTheFile) {
  std::ofstream(path_) << "\nengine: {max_batch: 64}";
  EXPECT_EQ(LoadConfig(path_, {}).status().message(),
            absl::StrCat(path_, ":2: engine.max_batch: unknown key"));
}

TEST_F(ConfigFileTest, AMissingFileAFolderAndAnEndlessOneAreErrors) {
  EXPECT_EQ(LoadConfig(path_, {}).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(LoadConfig("/dev/zero", {}).status().message(), "/dev/zero: more than 1048576 bytes");
  std::filesystem::create_directory(path_);
  const absl::Status folder = LoadConfig(path_, {}).status();
  EXPECT_EQ(folder.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(folder.message()), HasSubstr(path_));
}

}  // namespace
}  // namespace reprise::server
