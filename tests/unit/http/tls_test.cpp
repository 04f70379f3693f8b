// The server under TLS, with a certificate made for the test.
#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <sys/socket.h>

#include "tests/unit/http/live_server.h"

namespace darkroom::http {
namespace {

template <class T, void (*kFree)(T*)>
struct Freed {
  void operator()(T* pointer) const { kFree(pointer); }
};
template <class T, void (*kFree)(T*)>
using Owned = std::unique_ptr<T, Freed<T, kFree>>;

// Writes a self-signed certificate of a day and its key.
void write_certificate(const TlsFiles& files) {
  const Owned<EVP_PKEY, EVP_PKEY_free> key(EVP_EC_gen("P-256"));
  const Owned<X509, X509_free> certificate(X509_new());
  ASSERT_TRUE(key && certificate);
  constexpr long kDay = 86'400;
  ASN1_INTEGER_set(X509_get_serialNumber(certificate.get()), 1);
  X509_gmtime_adj(X509_getm_notBefore(certificate.get()), 0);
  X509_gmtime_adj(X509_getm_notAfter(certificate.get()), kDay);
  X509_set_pubkey(certificate.get(), key.get());
  ASSERT_GT(X509_sign(certificate.get(), key.get(), EVP_sha256()), 0);
  FILE* file = std::fopen(files.certificate.c_str(), "w");
  ASSERT_EQ(PEM_write_X509(file, certificate.get()), 1);
  std::fclose(file);
  file = std::fopen(files.key.c_str(), "w");
  ASSERT_EQ(PEM_write_PrivateKey(file, key.get(), nullptr, nullptr, 0, nullptr, nullptr), 1);
  std::fclose(file);
}

// What the server answers to one GET, or "" where there is no agreement on a version up to `newest`.
std::string get_under_tls(std::uint16_t port, int newest) {
  const Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  EXPECT_EQ(::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  const Owned<SSL_CTX, SSL_CTX_free> context(SSL_CTX_new(TLS_client_method()));
  SSL_CTX_set_security_level(context.get(), 0);  // or the old versions are refused on our side
  SSL_CTX_set_min_proto_version(context.get(), TLS1_VERSION);
  SSL_CTX_set_max_proto_version(context.get(), newest);
  const Owned<SSL, SSL_free> tls(SSL_new(context.get()));
  SSL_set_fd(tls.get(), fd.get());
  if (SSL_connect(tls.get()) != 1) return "";
  constexpr std::string_view kRequest = "GET /hello HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
  SSL_write(tls.get(), kRequest.data(), static_cast<int>(kRequest.size()));
  std::string answer;
  std::array<char, 4096> chunk{};
  for (int got = 0; (got = SSL_read(tls.get(), chunk.data(), static_cast<int>(chunk.size()))) > 0;) {
    answer.append(chunk.data(), static_cast<std::size_t>(got));
  }
  return answer;
}

TEST_F(LiveServer, SpeaksTls12AndLaterOnly) {
  options_.tls = {(directory_ / "certificate.pem").string(), (directory_ / "key.pem").string()};
  write_certificate(options_.tls);
  start();
  EXPECT_THAT(get_under_tls(port(), TLS1_3_VERSION), testing::EndsWith("hello"));
  EXPECT_THAT(get_under_tls(port(), TLS1_2_VERSION), testing::EndsWith("hello"));
  EXPECT_EQ(get_under_tls(port(), TLS1_1_VERSION), "");
}

TEST_F(LiveServer, ACertificateThatIsNoGoodLeavesTheOldOne) {
  options_.tls = {(directory_ / "certificate.pem").string(), (directory_ / "key.pem").string()};
  write_certificate(options_.tls);
  start();
  EXPECT_TRUE(server_->reload_tls());
  std::ofstream(options_.tls.key) << "nonsense";
  EXPECT_FALSE(server_->reload_tls());
  EXPECT_THAT(get_under_tls(port(), TLS1_3_VERSION), testing::EndsWith("hello"));
}

}  // namespace
}  // namespace darkroom::http
