// The metrics know every value that the wire can carry: none falls under OTHER.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/telemetry/metrics.h"
#include "reprise/admin/v1/cache_admin_service.pb.h"
#include "reprise/inference/v1/generation_service.pb.h"
#include "server/status_map.h"

namespace reprise::server {
namespace {

namespace wire = inference::v1;

// Names of the values but the first, which is "not set", without their prefix.
std::vector<std::string> Names(const google::protobuf::EnumDescriptor* type,
                               const std::string& prefix) {
  std::vector<std::string> names;
  for (int i = 1; i < type->value_count(); ++i) {
    names.push_back(type->value(i)->name().substr(prefix.size()));
  }
  return names;
}

TEST(MetricLabelsTest, EveryValueOfTheWireHasALabelOfItsOwn) {
  struct Field {
    std::string RequestSummary::*field;
    std::vector<std::string> values;
  };
  std::vector<Field> fields = {
      {&RequestSummary::retrieval_mode, Names(wire::RetrievalMode_descriptor(), "RETRIEVAL_MODE_")},
      {&RequestSummary::decision, Names(wire::ReuseDecision_descriptor(), "REUSE_DECISION_")},
      {&RequestSummary::reason, Names(wire::ReuseReason_descriptor(), "REUSE_REASON_")},
      {&RequestSummary::miss_reason, Names(wire::MissReason_descriptor(), "MISS_REASON_")},
      {&RequestSummary::finish_reason, Names(wire::FinishReason_descriptor(), "FINISH_REASON_")},
      {&RequestSummary::method, {}},
      {&RequestSummary::code, {}},
  };
  for (const char* name :
       {"reprise.inference.v1.GenerationService", "reprise.admin.v1.CacheAdminService"}) {
    const auto* service = (name[8] == 'i' ? wire::GenerateRequest::descriptor()->file()
                                          : admin::v1::GetCacheStatsRequest::descriptor()->file())
                              ->pool()
                              ->FindServiceByName(name);
    ASSERT_NE(service, nullptr) << name;
    for (int i = 0; i < service->method_count(); ++i) {
      fields[5].values.push_back(service->method(i)->name());
    }
  }
  for (int code = 0; code <= 16; ++code) {
    fields[6].values.push_back(CodeName(static_cast<absl::StatusCode>(code)));
  }
  Metrics metrics;
  for (const Field& field : fields) {
    ASSERT_GE(field.values.size(), 3u);
    for (const std::string& value : field.values) {
      RequestSummary summary{.method = "Generate",
                             .code = "OK",
                             .finish_reason = "STOP",
                             .retrieval_mode = "PREFIX",
                             .decision = "MISS",
                             .reason = "NONE",
                             .miss_reason = "NONE"};
      summary.*field.field = value;
      metrics.RequestStarted(summary.method);
      metrics.RequestFinished(summary);
      EXPECT_THAT(metrics.Serialize(), ::testing::HasSubstr("=\"" + value + "\""));
      ASSERT_THAT(metrics.Serialize(), ::testing::Not(::testing::HasSubstr("OTHER"))) << value;
    }
  }
}

}  // namespace
}  // namespace reprise::server
