#include "coordinator/launch/kubernetes_api.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/coordinator/launch/fake_kubernetes.h"

namespace fr {
namespace {

using nlohmann::json;
using Reply = FakeKubernetes::Reply;
using Request = FakeKubernetes::Request;
using testing::AllOf;
using testing::HasSubstr;

class KubernetesApiTest : public testing::Test {
 protected:
  KubernetesApi Api() { return KubernetesApi(server_.access()); }
  ApiAnswer GetWith(Reply reply) {
    server_.Handle([reply](const Request&) { return reply; });
    return Api().Get("/x", "get mpijobs");
  }

  FakeKubernetes server_;
};

// A service account's token changes every hour or so, without a restart.
TEST_F(KubernetesApiTest, TheTokenIsReadAnewForEveryRequest) {
  KubernetesApi api = Api();
  EXPECT_TRUE(api.Get("/x", "get").ok());
  server_.WriteToken("second");
  EXPECT_TRUE(api.Get("/x", "get").ok());
  EXPECT_EQ(server_.requests().at(0).token, "Bearer first");
  EXPECT_EQ(server_.requests().at(1).token, "Bearer second");
}

// A token that is missing or would break out of its header is never sent.
TEST_F(KubernetesApiTest, AWrongTokenIsNotSent) {
  for (const char* token : {"", "two words", "a\nX-Evil: 1"}) {
    server_.WriteToken(token);
    const ApiAnswer answer = Api().Get("/x", "get");
    EXPECT_EQ(answer.status, 0);
    EXPECT_FALSE(answer.sent);
    EXPECT_THAT(answer.problem, HasSubstr("kubernetes.token_file"));
  }
  EXPECT_TRUE(server_.requests().empty());
}

// Only the configured authority is believed, and it sees no token before that.
TEST_F(KubernetesApiTest, AnotherAuthoritysServerIsRefused) {
  server_.MakeCertificate("other");
  KubernetesAccess access = server_.access();
  access.ca_file = server_.File("other.crt");
  const ApiAnswer answer = KubernetesApi(access).Get("/x", "get");
  EXPECT_EQ(answer.status, 0);
  EXPECT_FALSE(answer.sent);
  EXPECT_THAT(answer.problem, HasSubstr("kubernetes.ca_file"));
  access.ca_file = "/nowhere";
  EXPECT_THAT(KubernetesApi(access).Get("/x", "get").problem, HasSubstr("/nowhere"));
  EXPECT_TRUE(server_.requests().empty());
}

// The certificate must also be the host's.
TEST_F(KubernetesApiTest, ACertificateOfAnotherHostIsRefused) {
  KubernetesAccess access = server_.access();
  access.url.replace(access.url.find("127.0.0.1"), 9, "localhost");
  EXPECT_EQ(KubernetesApi(access).Get("/x", "get").status, 0);
  EXPECT_TRUE(server_.requests().empty());
}

TEST_F(KubernetesApiTest, AServerThatIsNotThereIsNotReached) {
  KubernetesAccess access = server_.access();
  access.url = "https://127.0.0.1:1";
  const ApiAnswer answer = KubernetesApi(access).Post("/x", json::object(), "create");
  EXPECT_EQ(answer.status, 0);
  EXPECT_FALSE(answer.sent);
  EXPECT_TRUE(answer.try_later());
  EXPECT_THAT(answer.problem, HasSubstr("cannot be reached"));
}

// Each refusal says what to do about it, with the server's own words.
TEST_F(KubernetesApiTest, RefusalsSayWhatToDo) {
  const auto status = [](const std::string& text) {
    return json({{"kind", "Status"}, {"message", text}}).dump();
  };
  EXPECT_THAT(GetWith({401, status("Unauthorized"), {}}).problem,
              AllOf(HasSubstr("token"), HasSubstr("Unauthorized")));
  EXPECT_THAT(GetWith({403, status("denied"), {}}).problem,
              AllOf(HasSubstr("may not get mpijobs"), HasSubstr("k8s/base/rbac.yaml"),
                    HasSubstr("denied")));
  EXPECT_THAT(GetWith({404, status("gone"), {}}).problem, HasSubstr("MPI Operator"));
  EXPECT_THAT(GetWith({422, status("spec.x: unknown"), {}}).problem,
              AllOf(HasSubstr("template_file"), HasSubstr("spec.x: unknown")));
  const ApiAnswer broken = GetWith({500, status("etcd"), {}});
  EXPECT_THAT(broken.problem, HasSubstr("etcd"));
  EXPECT_TRUE(broken.try_later());
  EXPECT_FALSE(GetWith({403, "", {}}).try_later());
}

// A token does not follow where a server points.
TEST_F(KubernetesApiTest, RedirectsAreNotFollowed) {
  const ApiAnswer answer = GetWith({302, "", {{"Location", server_.url() + "/elsewhere"}}});
  EXPECT_EQ(answer.status, 302);
  EXPECT_THAT(answer.problem, HasSubstr("redirect"));
  EXPECT_EQ(server_.requests().size(), 1);
}

// What is no JSON object is no answer, whatever the status says.
TEST_F(KubernetesApiTest, GarbageIsNoAnswer) {
  for (const char* body : {"", "<html>", "[1]", "3", "{\"a\":", "\xff\xfe"}) {
    const ApiAnswer answer = GetWith({200, body, {}});
    EXPECT_EQ(answer.status, 0) << body;
    EXPECT_TRUE(answer.sent);
    EXPECT_FALSE(answer.problem.empty());
    EXPECT_FALSE(GetWith({500, body, {}}).problem.empty());
  }
}

TEST_F(KubernetesApiTest, AnAnswerWithoutEndIsCut) {
  server_.Handle([](const Request&) {
    return Reply{200, R"({"a": ")" + std::string(100'000, 'x') + "\"}", {}};
  });
  KubernetesAccess access = server_.access();
  access.max_answer_bytes = 50'000;
  const ApiAnswer answer = KubernetesApi(access).Get("/x", "get");
  EXPECT_EQ(answer.status, 0);
  EXPECT_THAT(answer.problem, HasSubstr("more than 50000 bytes"));
}

// Who is asked to wait sends nothing for so long.
TEST_F(KubernetesApiTest, RetryAfterIsKept) {
  server_.Handle([](const Request&) { return Reply{429, "{}", {{"Retry-After", "30"}}}; });
  KubernetesApi api = Api();
  EXPECT_EQ(api.Get("/x", "get").retry_after_ms, 30'000);
  const ApiAnswer second = api.Get("/x", "get");
  EXPECT_EQ(second.status, 0);
  EXPECT_FALSE(second.sent);
  EXPECT_EQ(server_.requests().size(), 1);
}

// A list comes in pages, each asked for with the token of the one before.
TEST_F(KubernetesApiTest, AllPagesOfAListAreRead) {
  server_.Handle([](const Request& request) {
    const auto at = request.query.find("continue");
    const int page = at == request.query.end() ? 0 : std::stoi(at->second.substr(2));
    json list = {{"items", json::array({page})}};
    if (page < 3) list["metadata"] = {{"continue", "a/" + std::to_string(page + 1)}};
    return Reply{200, list.dump(), {}};
  });
  std::vector<json> items;
  EXPECT_TRUE(Api().List("/pods", "fr/coordinator=abc", "list pods", &items).ok());
  EXPECT_EQ(json(items), json({0, 1, 2, 3}));
  for (const Request& request : server_.requests()) {
    EXPECT_EQ(request.path, "/pods");
    EXPECT_EQ(request.query.find("labelSelector")->second, "fr/coordinator=abc");
    EXPECT_TRUE(request.query.contains("limit"));
  }
}

// Where the server has forgotten the place in the list, it is read from its beginning, once.
TEST_F(KubernetesApiTest, AListThatExpiredIsReadAgain) {
  int expired = 0;
  server_.Handle([&](const Request& request) {
    if (!request.query.contains("continue")) {
      const json list = {{"items", {1}}, {"metadata", {{"continue", "x"}}}};
      return Reply{200, list.dump(), {}};
    }
    if (expired++ == 0) return Reply{410, "{}", {}};
    return Reply{200, R"({"items": [2]})", {}};
  });
  std::vector<json> items;
  EXPECT_TRUE(Api().List("/pods", "a=b", "list pods", &items).ok());
  EXPECT_EQ(json(items), json({1, 2}));
}

// Half a list would make the other half look as if it were gone.
TEST_F(KubernetesApiTest, AListThatBreaksOffIsNone) {
  server_.Handle([](const Request& request) {
    if (request.query.contains("continue")) return Reply{500, "{}", {}};
    const json list = {{"items", {1}}, {"metadata", {{"continue", "x"}}}};
    return Reply{200, list.dump(), {}};
  });
  std::vector<json> items;
  EXPECT_FALSE(Api().List("/pods", "a=b", "list pods", &items).ok());
  EXPECT_TRUE(items.empty());
  server_.Handle([](const Request&) { return Reply{200, R"({"items": 3})", {}}; });
  EXPECT_FALSE(Api().List("/pods", "a=b", "list pods", &items).ok());
}

TEST(QueryValue, IsPercentEncoded) {
  EXPECT_EQ(QueryValue("fr/job=a,b c~1"), "fr%2Fjob%3Da%2Cb%20c~1");
}

}  // namespace
}  // namespace fr
