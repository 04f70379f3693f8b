#include "service/workers/worker_pool.h"

#include <algorithm>
#include <utility>

#include "base/overloaded.h"

namespace darkroom {
namespace {

// Unanswered questions after which a worker counts as hung.
constexpr int kMissedHeartbeats = 3;
// Models that a worker may be thought to have, until it says how many it has.
constexpr std::size_t kMaxWarm = 64;

bool has(const std::vector<std::string>& models, const std::string& model) {
  return std::find(models.begin(), models.end(), model) != models.end();
}

double seconds(std::chrono::steady_clock::duration duration) { return std::chrono::duration<double>(duration).count(); }

}  // namespace

struct WorkerPool::Slot {
  struct Running {
    std::string request_id;
    std::string model;
    SteadyTime deadline;          // then it must have given the job up
    Loss loss = Loss::timed_out;  // what it means if it has not
    bool loading = false;
  };

  std::size_t index = 0;
  WorkerState state = WorkerState::waiting;
  std::unique_ptr<WorkerChannel> channel;  // unless waiting
  WorkerStats stats;
  std::vector<Running> running;  // more than one: they share passes
  std::vector<std::string> warm;
  std::optional<SteadyTime> last_load;
  std::map<std::string, Answer> questions;  // by request id
  std::vector<std::string> loading_ahead;   // models that it was asked to load, and has not answered

  SteadyTime started;
  SteadyTime last_asked;
  int missed = 0;  // questions about its status, unanswered
  int deaths = 0;  // since it last did a job
  SteadyTime due;  // while waiting: the next start; while stopping: the kill
  bool killed = false;
  Blame blame;      // while stopping
  std::string why;  // while stopping

  Running* find(const std::string& request_id) {
    const auto found =
        std::find_if(running.begin(), running.end(), [&](const Running& job) { return job.request_id == request_id; });
    return found == running.end() ? nullptr : &*found;
  }
  // What its end means for a job.
  Loss loss_of(const Running& job) const {
    if (blame.request_id.empty() || blame.request_id == job.request_id) return blame.loss;
    return Loss::disturbed;
  }
};

WorkerPool::WorkerPool(PoolOptions options, PoolListener& listener, Post post)
    : options_(std::move(options)), listener_(listener), post_(std::move(post)) {
  for (int i = 0; i < options_.workers; ++i) {
    slots_.push_back(std::make_unique<Slot>());
    slots_.back()->index = static_cast<std::size_t>(i);
  }
}

WorkerPool::~WorkerPool() = default;

// --- Life and death ---

void WorkerPool::start(Slot& slot, SteadyTime now) {
  ++slot.stats.starts;
  slot.started = now;
  slot.last_asked = now;
  slot.missed = 0;
  slot.killed = false;
  slot.blame = {};
  slot.why.clear();
  Result<std::unique_ptr<WorkerChannel>> channel = options_.start(
      [this, index = slot.index](WorkerArrival what) { post_({.worker = index, .what = std::move(what)}); });
  if (channel) {
    slot.channel = std::move(*channel);
    slot.state = WorkerState::starting;
    return;
  }
  last_trouble_ = channel.error().message;
  log(slot, LogLevel::error, "cannot be started: " + last_trouble_);
  ++slot.deaths;
  slot.due = now + options_.last_restart;
}

void WorkerPool::on_end(Slot& slot, const ExitStatus& status, SteadyTime now) {
  const std::string cause = slot.why.empty() ? describe(status) : slot.why;
  slot.channel.reset();
  slot.state = WorkerState::waiting;
  slot.stats.pid = 0;
  slot.warm.clear();
  slot.loading_ahead.clear();
  // Twice as long from one death to the next, unless it has lived for long.
  if (now - slot.started > options_.last_restart) slot.deaths = 0;
  const int doublings = std::min(slot.deaths++, 20);
  slot.due =
      now + std::min<std::chrono::milliseconds>(options_.first_restart * (1 << doublings), options_.last_restart);
  if (!stopping_) {
    last_trouble_ = cause;
    log(slot, LogLevel::warning, "ended: " + cause);
  }
  for (auto& [id, answer] : std::exchange(slot.questions, {})) answer(fail(ErrorCode::worker_lost, "{}", cause));
  for (const Slot::Running& job : std::exchange(slot.running, {})) {
    if (!stopping_) listener_.on_loss(job.request_id, slot.loss_of(job), cause);
  }
}

void WorkerPool::end_worker(Slot& slot, const Blame& blame, std::string why, SteadyTime now) {
  log(slot, LogLevel::warning, "is stopped: " + why);
  slot.state = WorkerState::stopping;
  slot.blame = blame;
  slot.why = std::move(why);
  slot.due = now + options_.grace;
  slot.channel->terminate();
}

void WorkerPool::stop(SteadyTime now) {
  stopping_ = true;
  for (const std::unique_ptr<Slot>& slot : slots_) {
    if (!slot->channel) continue;
    slot->channel->close();
    if (!slot->running.empty()) slot->channel->terminate();
    slot->state = WorkerState::stopping;
    slot->due = now + options_.grace;
  }
}

bool WorkerPool::stopped() const {
  return std::all_of(slots_.begin(), slots_.end(), [](const auto& slot) { return !slot->channel; });
}

void WorkerPool::tick(SteadyTime now) {
  for (const std::unique_ptr<Slot>& slot : slots_) watch(*slot, now);
}

void WorkerPool::watch(Slot& slot, SteadyTime now) {
  switch (slot.state) {
    case WorkerState::waiting:
      if (!stopping_ && now >= slot.due) start(slot, now);
      return;
    case WorkerState::stopping:
      if (now < slot.due || slot.killed) return;
      slot.killed = true;
      slot.channel->kill();
      return;
    case WorkerState::starting:
      if (now - slot.started < options_.patience) return;
      end_worker(slot, {}, fmt::format("not ready after {:.0f} s", seconds(options_.patience)), now);
      return;
    case WorkerState::idle:
    case WorkerState::busy:
      break;
  }
  const auto late = std::find_if(slot.running.begin(), slot.running.end(),
                                 [&](const Slot::Running& job) { return now >= job.deadline; });
  if (late != slot.running.end()) {
    const char* const reason = late->loss == Loss::cancelled ? "that was cancelled" : "whose time was over";
    end_worker(slot, {.request_id = late->request_id, .loss = late->loss},
               fmt::format("it did not give up a job {} within {:.0f} s", reason, seconds(options_.patience)), now);
  } else if (now - slot.last_asked >= options_.heartbeat) {
    if (slot.missed >= kMissedHeartbeats) {
      end_worker(slot, {},
                 fmt::format("it answered nothing for {:.0f} s", seconds(options_.heartbeat * kMissedHeartbeats)), now);
    } else {
      ask_status(slot, now);
    }
  }
}

SteadyTime WorkerPool::next_due() const {
  SteadyTime next = SteadyTime::max();
  for (const std::unique_ptr<Slot>& slot : slots_) {
    switch (slot->state) {
      case WorkerState::waiting:
        if (!stopping_) next = std::min(next, slot->due);
        break;
      case WorkerState::stopping:
        if (!slot->killed) next = std::min(next, slot->due);
        break;
      case WorkerState::starting:
        next = std::min(next, slot->started + options_.patience);
        break;
      case WorkerState::idle:
      case WorkerState::busy:
        next = std::min(next, slot->last_asked + options_.heartbeat);
        for (const Slot::Running& job : slot->running) next = std::min(next, job.deadline);
        break;
    }
  }
  return next;
}

void WorkerPool::ask_status(Slot& slot, SteadyTime now) {
  slot.last_asked = now;
  ++slot.missed;
  send_question(slot, AskStatus{}, [&slot](const Result<ResponseData>& data) {
    if (!data) return;
    slot.missed = 0;
    if (const auto* status = std::get_if<Status>(&*data)) note_status(slot, *status);
  });
}

void WorkerPool::note_status(Slot& slot, const Status& status) {
  slot.stats.memory_used = status.memory_used;
  slot.stats.memory_peak = status.memory_peak;
  // Which models it still has is known by number only: those that were used last.
  const auto checkpoints = static_cast<std::size_t>(
      std::count_if(status.loaded_models.begin(), status.loaded_models.end(),
                    [](const LoadedModelStatus& model) { return model.kind == name_of(ModelRole::checkpoint); }));
  if (slot.running.empty() && slot.warm.size() > checkpoints) slot.warm.resize(checkpoints);
}

// --- Arrivals ---

void WorkerPool::receive(Arrival arrival, SteadyTime now) {
  DR_ASSERT(arrival.worker < slots_.size());
  Slot& slot = *slots_[arrival.worker];
  std::visit(Overloaded{[&](WorkerMessage& message) { on_message(slot, std::move(message), now); },
                        [&](const Garbage& garbage) {
                          log(slot, LogLevel::warning, "sent what is no message: " + garbage.what);
                        },
                        [&](const ExitStatus& status) { on_end(slot, status, now); }},
             arrival.what);
}

void WorkerPool::on_message(Slot& slot, WorkerMessage message, SteadyTime now) {
  if (const auto* event = std::get_if<Event>(&message)) {
    on_event(slot, *event);
  } else {
    on_response(slot, std::move(std::get<Response>(message)), now);
  }
}

void WorkerPool::on_event(Slot& slot, const Event& event) {
  Slot::Running* const job = slot.find(event.request_id);
  std::visit(Overloaded{[&](const Ready& ready) {
                          if (slot.state != WorkerState::starting) return;
                          slot.state = WorkerState::idle;
                          slot.stats.pid = ready.pid;
                          slot.stats.device = ready.device;
                        },
                        [&](const Progress& progress) {
                          if (job == nullptr) return;
                          if (progress.stage != "load") job->loading = false;
                          listener_.on_progress(event.request_id, progress);
                        },
                        [&](const Log& entry) { log(slot, entry.level, entry.message); }},
             event.body);
}

void WorkerPool::on_response(Slot& slot, Response response, SteadyTime now) {
  if (const auto question = slot.questions.find(response.request_id); question != slot.questions.end()) {
    const Answer answer = std::move(question->second);
    slot.questions.erase(question);
    answer(response.refusal ? Result<ResponseData>(tl::unexpected(response.refusal->error))
                            : Result<ResponseData>(std::move(response.data)));
    return;
  }
  const Slot::Running* const job = slot.find(response.request_id);
  if (job == nullptr) {
    log(slot, LogLevel::warning, fmt::format("answered \"{}\", which nobody waits for", response.request_id));
    return;
  }
  // It gave the job up because it was told to go: that says less than why it was told so.
  if (slot.state == WorkerState::stopping && response.refusal && response.refusal->error.code == ErrorCode::cancelled) {
    return;
  }
  const std::string model = job->model;
  std::erase_if(slot.running, [&](const Slot::Running& one) { return one.request_id == response.request_id; });
  if (slot.state == WorkerState::busy && slot.running.empty()) slot.state = WorkerState::idle;
  if (!response.refusal) {
    slot.deaths = 0;
    std::erase(slot.warm, model);
    slot.warm.insert(slot.warm.begin(), model);
    if (slot.warm.size() > kMaxWarm) slot.warm.pop_back();
  }
  if (slot.state == WorkerState::idle) ask_status(slot, now);
  const std::string request_id = response.request_id;
  listener_.on_answer(request_id, std::move(response));
}

// --- Work ---

std::vector<WorkerSight> WorkerPool::sights(SteadyTime now) const {
  std::vector<WorkerSight> sights;
  for (const std::unique_ptr<Slot>& slot : slots_) {
    sights.push_back(
        {.idle = slot->state == WorkerState::idle && !stopping_,
         .warm = slot->warm,
         .loading = !slot->running.empty() && slot->running.front().loading ? slot->running.front().model : "",
         .seconds_since_load = slot->last_load ? seconds(now - *slot->last_load) : 1e9});
  }
  return sights;
}

void WorkerPool::run(std::size_t worker, std::vector<PoolJob> jobs, SteadyTime now) {
  Slot& slot = *slots_[worker];
  DR_ASSERT(slot.state == WorkerState::idle && slot.running.empty() && !jobs.empty());
  const bool warm = std::find(slot.warm.begin(), slot.warm.end(), jobs.front().model) != slot.warm.end();
  if (!warm) slot.last_load = now;
  slot.state = WorkerState::busy;
  std::vector<Request> requests;
  std::chrono::seconds before(0);  // that the worker may spend on those before, if it does not do all at once
  for (PoolJob& job : jobs) {
    before += std::chrono::seconds(job.request.job.timeout);
    slot.running.push_back({.request_id = job.request_id,
                            .model = std::move(job.model),
                            .deadline = now + before + options_.patience,
                            .loss = Loss::timed_out,
                            .loading = !warm});
    requests.push_back({.request_id = std::move(job.request_id), .body = std::move(job.request)});
  }
  slot.channel->send(requests);
}

void WorkerPool::cancel(const std::string& request_id, SteadyTime now) {
  for (const std::unique_ptr<Slot>& slot : slots_) {
    Slot::Running* const job = slot->state == WorkerState::busy ? slot->find(request_id) : nullptr;
    if (job == nullptr) continue;
    if (job->loss != Loss::cancelled) {
      job->loss = Loss::cancelled;
      job->deadline = std::min(job->deadline, now + options_.patience);
    }
    send_question(*slot, CancelJob{request_id}, [](const Result<ResponseData>&) {});
  }
}

WorkerPool::Slot* WorkerPool::free_slot() const {
  const auto is = [](WorkerState state) { return [state](const auto& slot) { return slot->state == state; }; };
  auto slot = std::find_if(slots_.begin(), slots_.end(), is(WorkerState::idle));
  if (slot == slots_.end()) slot = std::find_if(slots_.begin(), slots_.end(), is(WorkerState::busy));
  return slot == slots_.end() ? nullptr : slot->get();
}

tl::unexpected<Error> WorkerPool::none_ready() const {
  return fail(ErrorCode::worker_lost, "no worker is ready{}{}", last_trouble_.empty() ? "" : ": ", last_trouble_);
}

void WorkerPool::ask(RequestBody body, Answer answer) {
  Slot* const slot = free_slot();
  if (slot == nullptr) return answer(none_ready());
  send_question(*slot, std::move(body), std::move(answer));
}

void WorkerPool::load(const std::string& model, const Done& done) {
  Slot* chosen = nullptr;
  for (const std::unique_ptr<Slot>& slot : slots_) {
    if (has(slot->warm, model)) return done({});
    if (has(slot->loading_ahead, model)) chosen = slot.get();  // a second time costs nothing
  }
  Slot* const slot = chosen != nullptr ? chosen : free_slot();
  if (slot == nullptr) return done(none_ready());
  slot->loading_ahead.push_back(model);
  send_question(*slot, LoadModel{.model = model}, [slot, model, done](const Result<ResponseData>& data) {
    const auto asked = std::find(slot->loading_ahead.begin(), slot->loading_ahead.end(), model);
    if (asked != slot->loading_ahead.end()) slot->loading_ahead.erase(asked);
    if (!data) return done(tl::unexpected(data.error()));
    std::erase(slot->warm, model);
    slot->warm.insert(slot->warm.begin(), model);
    done({});
  });
}

void WorkerPool::unload(const std::string& model, const Done& done) {
  struct Waiting {
    int workers = 0;
    Result<void> outcome;
  };
  const auto waiting = std::make_shared<Waiting>();
  std::vector<Slot*> having;
  for (const std::unique_ptr<Slot>& slot : slots_) {
    // Also one that is about to have it: it is told after that.
    const bool works_on_it = !slot->running.empty() && slot->running.front().model == model;
    const bool has_it = has(slot->warm, model) || has(slot->loading_ahead, model) || works_on_it;
    if (has_it && slot->channel && slot->state != WorkerState::stopping) having.push_back(slot.get());
  }
  if (having.empty()) return done({});
  waiting->workers = static_cast<int>(having.size());
  for (Slot* const slot : having) {
    send_question(*slot, UnloadModel{.model = model}, [slot, model, waiting, done](const Result<ResponseData>& data) {
      // What it has not any more, or died with, is unloaded too.
      const bool gone =
          data || data.error().code == ErrorCode::not_found || data.error().code == ErrorCode::worker_lost;
      if (gone) {
        std::erase(slot->warm, model);
      } else {
        waiting->outcome = tl::unexpected(data.error());
      }
      if (--waiting->workers == 0) done(waiting->outcome);
    });
  }
}

void WorkerPool::send_question(Slot& slot, RequestBody body, Answer answer) {
  std::string id = fmt::format("question-{}", ++questions_);
  slot.questions[id] = std::move(answer);
  slot.channel->send(std::vector<Request>{{.request_id = std::move(id), .body = std::move(body)}});
}

// --- Looking ---

bool WorkerPool::any_ready() const {
  return std::any_of(slots_.begin(), slots_.end(), [](const auto& slot) {
    return slot->state == WorkerState::idle || slot->state == WorkerState::busy;
  });
}

std::vector<WorkerStats> WorkerPool::stats() const {
  std::vector<WorkerStats> stats;
  for (const std::unique_ptr<Slot>& slot : slots_) {
    WorkerStats& one = stats.emplace_back(slot->stats);
    one.state = slot->state;
    one.warm = slot->warm;
    if (!slot->running.empty()) one.job = slot->running.front().request_id;
  }
  return stats;
}

void WorkerPool::log(const Slot& slot, LogLevel level, const std::string& message) {
  listener_.on_log(level, fmt::format("worker {}: {}", slot.index, message));
}

}  // namespace darkroom
