// reprise cache ...: what operators do with the cache, over the admin port.
#include <google/protobuf/util/json_util.h>

#include <fstream>
#include <iostream>
#include <memory>

#include "absl/strings/str_cat.h"
#include "client/cache_format.h"
#include "client/commands.h"
#include "client/format.h"

namespace reprise::client {
namespace {

namespace wire = admin::v1;

constexpr size_t kPieceBytes = size_t{1} << 20;

// What a command prints: JSON, or what `text` makes of the reply.
template <typename Message, typename Text>
int Print(const GlobalOptions& globals, const absl::StatusOr<Message>& reply, Text text) {
  if (!reply.ok()) return ReportFailure(reply.status());
  if (globals.json) {
    std::cout << ToJson(*reply) << std::endl;
  } else {
    std::cout << text(*reply) << std::flush;
  }
  return 0;
}

int Fail(const std::string& message) {
  std::cerr << "reprise: " << message << std::endl;
  return kExitFailed;
}

struct Options {
  std::string tenant, text_prefix, prompt, file, digest, ttl;
  std::vector<std::string> names;  // ids of entries, or prompts
  bool force = false, all = false, pinned_only = false, unpinned_only = false;
  int limit = 100, min_tokens = 0;
};
using OptionsPtr = std::shared_ptr<Options>;

// A command under `cache` that runs `run` when it is chosen.
CLI::App* Add(CLI::App& cache, const char* name, const char* help, Command& chosen,
              const Command& run) {
  CLI::App* command = cache.add_subcommand(name, help);
  command->callback([run, &chosen] { chosen = run; });
  return command;
}

void AddTenant(CLI::App& command, Options& options, const char* help) {
  command.add_option("--tenant", options.tenant, help);
}

void AddPrefix(CLI::App& command, Options& options) {
  command.add_option("--text-prefix", options.text_prefix, "only entries whose text begins so");
}

// The entry by its id, or by --prompt.
void AddEntry(CLI::App& command, const OptionsPtr& options) {
  CLI::Option* id =
      command.add_option("entry", options->names, "the entry's id, of cache list")->expected(0, 1);
  command.add_option("--prompt", options->prompt, "the entry of this text")->excludes(id);
  AddTenant(command, *options, "whose entry; default: your own");
}

wire::CacheEntrySelector ToSelector(const Options& options) {
  wire::CacheEntrySelector selector;
  selector.set_tenant(options.tenant);
  if (!options.names.empty()) selector.set_entry_id(options.names[0]);
  if (!options.prompt.empty()) selector.mutable_prompt()->set_text(options.prompt);
  return selector;
}

void AddStats(CLI::App& cache, const GlobalOptions& globals, Command& chosen) {
  Add(cache, "stats", "Show what the cache holds, by tier and by namespace", chosen, [&globals] {
    return Print(globals, globals.Connect().GetCacheStats(), [](const auto& stats) {
      return absl::StrCat(StatsText(stats), NamespacesText(stats));
    });
  });
}

int RunList(const GlobalOptions& globals, const Options& options) {
  wire::ListCacheEntriesRequest request;
  request.set_tenant(options.tenant);
  request.set_text_prefix(options.text_prefix);
  request.set_min_token_count(options.min_tokens);
  if (options.pinned_only || options.unpinned_only) request.set_pinned(options.pinned_only);
  wire::ListCacheEntriesResponse all;
  Client client = globals.Connect();
  do {
    const int left = options.limit == 0 ? 1000 : options.limit - all.entries_size();
    request.set_page_size(std::min(left, 1000));
    const auto page = client.ListCacheEntries(request);
    if (!page.ok()) return ReportFailure(page.status());
    all.MergeFrom(*page);
    all.set_next_page_token(page->next_page_token());
    request.set_page_token(page->next_page_token());
  } while (!request.page_token().empty() &&
           (options.limit == 0 || all.entries_size() < options.limit));
  return Print(globals, absl::StatusOr<wire::ListCacheEntriesResponse>(all), [](const auto& list) {
    return absl::StrCat(EntriesText({list.entries().begin(), list.entries().end()}),
                        list.next_page_token().empty() ? "" : "and more; --limit 0 shows all\n");
  });
}

void AddList(CLI::App& cache, const GlobalOptions& globals, Command& chosen) {
  const auto options = std::make_shared<Options>();
  CLI::App* command =
      Add(cache, "list", "List cached entries, those first that would be evicted last", chosen,
          [&globals, options] { return RunList(globals, *options); });
  AddTenant(*command, *options, "only this tenant's; default: all");
  AddPrefix(*command, *options);
  CLI::Option* pinned = command->add_flag("--pinned", options->pinned_only, "only pinned ones");
  command->add_flag("--unpinned", options->unpinned_only, "only others")->excludes(pinned);
  command->add_option("--min-tokens", options->min_tokens, "only of at least so many tokens");
  command->add_option("--limit", options->limit, "most entries; 0: all")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
}

void AddExplain(CLI::App& cache, const GlobalOptions& globals, Command& chosen) {
  const auto options = std::make_shared<Options>();
  CLI::App* command =
      Add(cache, "explain", "Say what a tenant's prompt would reuse, and why", chosen,
          [&globals, options] {
            wire::ExplainCacheLookupRequest request;
            request.set_tenant(options->tenant);
            request.mutable_prompt()->set_text(options->prompt);
            return Print(globals, globals.Connect().ExplainCacheLookup(request),
                         [](const auto& reply) { return ExplanationText(reply.explanation()); });
          });
  command->add_option("prompt", options->prompt, "the prompt")->required();
  AddTenant(*command, *options, "who would ask; default: you");
}

// One request for each line of a file, or one for the prompts of the command line.
int RunWarm(const GlobalOptions& globals, const Options& options) {
  std::vector<wire::WarmCacheRequest> requests;
  if (!options.names.empty()) {
    wire::WarmCacheRequest& request = requests.emplace_back();
    for (const std::string& text : options.names) request.add_prompts()->set_text(text);
  }
  std::ifstream file(options.file);
  if (!options.file.empty() && !file) return Fail(options.file + ": cannot be opened");
  int number = 0;
  for (std::string line; !options.file.empty() && std::getline(file, line);) {
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    const auto parsed = google::protobuf::util::JsonStringToMessage(line, &requests.emplace_back());
    if (!parsed.ok()) {
      return Fail(absl::StrCat(options.file, ":", number, ": not a WarmCacheRequest in JSON"));
    }
  }
  if (requests.empty()) return Fail("warm: no prompt; give some, or --file");
  Client client = globals.Connect();
  for (wire::WarmCacheRequest& request : requests) {
    if (request.tenant().empty()) request.set_tenant(options.tenant);
    const int code = Print(globals, client.WarmCache(request), WarmText);
    if (code != 0) return code;
  }
  return 0;
}

void AddWarm(CLI::App& cache, const GlobalOptions& globals, Command& chosen) {
  const auto options = std::make_shared<Options>();
  CLI::App* command = Add(cache, "warm", "Compute prompts and make their KV durable", chosen,
                          [&globals, options] { return RunWarm(globals, *options); });
  command->add_option("prompts", options->names, "texts to warm");
  command->add_option("--file", options->file,
                      "a WarmCacheRequest in JSON on each line: prompts as text, token_ids or "
                      "conversation");
  AddTenant(*command, *options, "whose cache; default: your own");
}

void AddPins(CLI::App& cache, const GlobalOptions& globals, Command& chosen) {
  for (const bool pinned : {true, false}) {
    const auto options = std::make_shared<Options>();
    CLI::App* command =
        Add(cache, pinned ? "pin" : "unpin",
            pinned ? "Protect an entry from eviction" : "End the protection of an entry", chosen,
            [&globals, options, pinned] {
              wire::PinCacheEntryRequest request;
              *request.mutable_entry() = ToSelector(*options);
              request.set_pinned(pinned);
              return Print(globals, globals.Connect().PinCacheEntry(request),
                           [](const auto& reply) { return EntriesText({reply.entry()}); });
            });
    AddEntry(*command, options);
  }
}

int RunTtl(const GlobalOptions& globals, const Options& options) {
  wire::SetCacheEntryTtlRequest request;
  *request.mutable_entry() = ToSelector(options);
  if (options.ttl != "never") {
    absl::Duration ttl, rest;
    if (!absl::ParseDuration(options.ttl, &ttl)) {
      return Fail("ttl: \"" + options.ttl + "\", expected a duration such as 90m, or never");
    }
    request.mutable_ttl()->set_seconds(absl::IDivDuration(ttl, absl::Seconds(1), &rest));
    request.mutable_ttl()->set_nanos(static_cast<int32_t>(absl::ToInt64Nanoseconds(rest)));
  }
  return Print(globals, globals.Connect().SetCacheEntryTtl(request),
               [](const auto& reply) { return EntriesText({reply.entry()}); });
}

void AddTtl(CLI::App& cache, const GlobalOptions& globals, Command& chosen) {
  const auto options = std::make_shared<Options>();
  CLI::App* command = Add(cache, "ttl", "Let an entry expire", chosen,
                          [&globals, options] { return RunTtl(globals, *options); });
  command->add_option("ttl", options->ttl, "a duration such as 90m from now, or never")->required();
  AddEntry(*command, options);
}

void AddPurge(CLI::App& cache, const GlobalOptions& globals, Command& chosen) {
  const auto options = std::make_shared<Options>();
  CLI::App* command =
      Add(cache, "purge", "Remove entries; without --force only say which", chosen,
          [&globals, options] {
            wire::PurgeCacheEntriesRequest request;
            request.set_tenant(options->tenant);
            request.set_text_prefix(options->text_prefix);
            request.set_all(options->all);
            request.set_force(options->force);
            for (const std::string& id : options->names) request.add_entry_ids(id);
            return Print(globals, globals.Connect().PurgeCacheEntries(request),
                         [&](const auto& reply) { return PurgeText(reply, options->force); });
          });
  command->add_option("entries", options->names, "ids of entries, of cache list");
  AddPrefix(*command, *options);
  command->add_flag("--all", options->all, "all entries of the tenant");
  command->add_flag("--force", options->force, "remove them");
  AddTenant(*command, *options, "whose entries; default: your own");
}

int RunExport(const GlobalOptions& globals, const Options& options) {
  std::ofstream file(options.file, std::ios::binary | std::ios::trunc);
  if (!file) return Fail(options.file + ": cannot be written");
  wire::ExportCacheEntriesRequest request;
  request.set_tenant(options.tenant);
  request.set_text_prefix(options.text_prefix);
  const auto last =
      globals.Connect().ExportCacheEntries(request, [&](const std::string& data) { file << data; });
  file.close();
  if (last.ok() && !file) return Fail(options.file + ": cannot be written");
  return Print(globals, last, [](const auto& reply) {
    return absl::StrCat(reply.entry_count(), " entries, digest ", reply.digest(), "\n");
  });
}

int RunImport(const GlobalOptions& globals, const Options& options) {
  std::ifstream file(options.file, std::ios::binary);
  if (!file) return Fail(options.file + ": cannot be opened");
  wire::ImportCacheEntriesRequest first;
  first.set_tenant(options.tenant);
  first.set_digest(options.digest);
  const auto reply = globals.Connect().ImportCacheEntries(first, [&] {
    std::string data(kPieceBytes, '\0');
    file.read(data.data(), static_cast<std::streamsize>(data.size()));
    data.resize(static_cast<size_t>(file.gcount()));
    return data;
  });
  return Print(globals, reply, [](const auto& imported) {
    return absl::StrCat(imported.entry_count(), " entries, ", imported.added_token_count(),
                        " tokens new, digest ", imported.digest(), "\n");
  });
}

void AddArchive(CLI::App& cache, const GlobalOptions& globals, Command& chosen) {
  const auto to = std::make_shared<Options>(), from = std::make_shared<Options>();
  CLI::App* command = Add(cache, "export", "Write durable entries to a file", chosen,
                          [&globals, to] { return RunExport(globals, *to); });
  command->add_option("file", to->file, "the archive to write")->required();
  AddPrefix(*command, *to);
  AddTenant(*command, *to, "whose entries; default: your own");
  command = Add(cache, "import", "Take the entries of a file that export wrote", chosen,
                [&globals, from] { return RunImport(globals, *from); });
  command->add_option("file", from->file, "the archive")->required();
  command->add_option("--digest", from->digest, "what export printed; another one is an error");
  AddTenant(*command, *from, "to whom they go; default: your own");
}

}  // namespace

void AddCacheCommands(CLI::App& app, const GlobalOptions& globals, Command& chosen) {
  CLI::App* cache = app.add_subcommand("cache", "See and manage the cache, over the admin port");
  cache->require_subcommand(1);
  cache->fallthrough();
  AddStats(*cache, globals, chosen);
  AddList(*cache, globals, chosen);
  AddExplain(*cache, globals, chosen);
  AddWarm(*cache, globals, chosen);
  AddPins(*cache, globals, chosen);
  AddTtl(*cache, globals, chosen);
  AddPurge(*cache, globals, chosen);
  AddArchive(*cache, globals, chosen);
}

}  // namespace reprise::client
