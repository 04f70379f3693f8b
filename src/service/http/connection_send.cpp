// The part of a Connection that writes answers.
#include <algorithm>
#include <array>
#include <cerrno>
#include <ctime>
#include <memory>

#include <boost/asio/post.hpp>
#include <unistd.h>

#include "service/http/connection.h"

namespace darkroom::http {
namespace {

constexpr std::size_t kChunk = 64 * 1024;  // bytes written under one deadline
constexpr std::chrono::seconds kLookTime(1);

std::string date_now() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  ::gmtime_r(&now, &parts);
  std::array<char, 40> text{};
  const std::size_t length = std::strftime(text.data(), text.size(), "%a, %d %b %Y %H:%M:%S GMT", &parts);
  return {text.data(), length};
}

void append_field(std::string& head, std::string_view name, std::string_view value) {
  head.append(name).append(": ");
  // A value must not be able to begin another field.
  for (const char c : value) head += static_cast<unsigned char>(c) < 0x20 || c == 0x7F ? ' ' : c;
  head += "\r\n";
}

bool may_have_body(int status) { return status >= 200 && status != 204 && status != 304; }

}  // namespace

std::string Connection::head_of(const Response& response) const {
  std::string head = fmt::format("HTTP/1.1 {} {}\r\n", response.status, reason_phrase(response.status));
  append_field(head, "Date", date_now());
  for (const auto& [name, value] : response.headers) append_field(head, name, value);
  for (const auto& [name, value] : shared_->guard.cors_headers(request_)) append_field(head, name, value);
  append_field(head, "X-Request-Id", request_.request_id);
  append_field(head, "X-Content-Type-Options", "nosniff");
  if (!response.headers.has("Cache-Control")) append_field(head, "Cache-Control", "no-store");
  if (const auto* text = std::get_if<std::string>(&response.body)) {
    if (may_have_body(response.status)) append_field(head, "Content-Length", fmt::format("{}", text->size()));
  } else if (const auto* part = std::get_if<FilePart>(&response.body)) {
    append_field(head, "Content-Length", fmt::format("{}", part->size));
  } else if (parser_->get().version() >= 11) {
    append_field(head, "Transfer-Encoding", "chunked");
  }
  append_field(head, "Connection", keep_ ? "keep-alive" : "close");
  return head + "\r\n";
}

asio::awaitable<bool> Connection::send(Response response) {
  const bool has_body = request_.method != "HEAD" && may_have_body(response.status);
  const bool is_stream = std::holds_alternative<std::shared_ptr<EventStream>>(response.body);
  if (shared_->draining || (is_stream && parser_->get().version() < 11)) keep_ = false;
  std::string head = head_of(response);
  if (auto* stream = std::get_if<std::shared_ptr<EventStream>>(&response.body)) {
    std::shared_ptr<EventStream> taken = std::move(*stream);
    if (!has_body) taken->finish();
    co_return co_await send_events(std::move(head), std::move(taken));
  }
  if (!has_body) co_return co_await send_text(std::move(head), "");
  if (auto* part = std::get_if<FilePart>(&response.body)) {
    FilePart taken = std::move(*part);
    co_return co_await send_file(std::move(head), std::move(taken));
  }
  co_return co_await send_text(std::move(head), std::get<std::string>(response.body));
}

asio::awaitable<bool> Connection::send_text(std::string head, std::string_view body) {
  // Together, as far as it is small: one packet, one system call.
  const std::size_t first = std::min(body.size(), kChunk);
  head.append(body.substr(0, first));
  error_code error = co_await wire_.write(head, within(shared_->options.write_time));
  if (error) co_return false;
  sent_ += first;
  for (std::size_t at = first; at < body.size(); at += kChunk) {
    const std::string_view chunk = body.substr(at, kChunk);
    error = co_await wire_.write(chunk, within(shared_->options.write_time));
    if (error) co_return false;
    sent_ += chunk.size();
  }
  co_return true;
}

asio::awaitable<bool> Connection::send_file(std::string head, FilePart part) {
  error_code error = co_await wire_.write(head, within(shared_->options.write_time));
  if (error) co_return false;
  std::string chunk(std::min<std::uint64_t>(part.size, kChunk), '\0');
  while (part.size > 0) {
    const std::size_t wanted = std::min<std::uint64_t>(part.size, chunk.size());
    const ssize_t got = ::pread(part.file->get(), chunk.data(), wanted, static_cast<off_t>(part.offset));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) co_return false;  // the file has become shorter: the client sees that the answer is not whole
    const auto bytes = static_cast<std::size_t>(got);
    error = co_await wire_.write(std::string_view(chunk).substr(0, bytes), within(shared_->options.write_time));
    if (error) co_return false;
    sent_ += bytes;
    part.offset += bytes;
    part.size -= bytes;
  }
  co_return true;
}

asio::awaitable<bool> Connection::send_events(std::string head, std::shared_ptr<EventStream> stream) {
  const bool is_chunked = parser_->get().version() >= 11;
  const auto framed = [is_chunked](const std::string& text) {
    return is_chunked ? fmt::format("{:x}\r\n{}\r\n", text.size(), text) : text;
  };
  auto listening = std::make_unique<const Listening>(stream->bell(), ringer());
  error_code error = co_await wire_.write(head, within(shared_->options.write_time));
  Deadline last = std::chrono::steady_clock::now();
  bool ended = false;
  while (!error && !ended) {
    EventStream::Waiting waiting = stream->take();
    ended = waiting.ended || shared_->finishing;
    if (waiting.text.empty() && !ended && within({}) - last >= shared_->options.event_comment_time)
      waiting.text = ":\n\n";
    if (!waiting.text.empty() && request_.method != "HEAD") {
      const std::string chunk = framed(waiting.text);
      error = co_await wire_.write(chunk, within(shared_->options.write_time));
      sent_ += waiting.text.size();
      last = std::chrono::steady_clock::now();
    } else if (!ended) {
      co_await wait(within(kLookTime));
      if (wire_.peer_is_gone()) error = asio::error::eof;
    }
  }
  listening.reset();
  // A subscription's end may have to wait for its last callback.
  asio::post(shared_->handlers, [stream] { stream->let_go(); });
  if (!error && is_chunked && request_.method != "HEAD") {
    error = co_await wire_.write("0\r\n\r\n", within(shared_->options.write_time));
  }
  co_return !error;
}

}  // namespace darkroom::http
