// The solvers, one file each; make_scheduler() chooses.
#pragma once

#include <memory>

#include "engine/sampling/scheduler.h"
#include "engine/sampling/scheduler_config.h"

namespace darkroom::engine {

std::unique_ptr<Scheduler> make_ddim(const SchedulerConfig& config);
std::unique_ptr<Scheduler> make_ddpm(const SchedulerConfig& config);
std::unique_ptr<Scheduler> make_deis_multistep(const SchedulerConfig& config);
std::unique_ptr<Scheduler> make_dpm_solver_multistep(const SchedulerConfig& config);
std::unique_ptr<Scheduler> make_dpm_solver_singlestep(const SchedulerConfig& config);
std::unique_ptr<Scheduler> make_euler_ancestral_discrete(const SchedulerConfig& config);
std::unique_ptr<Scheduler> make_euler_discrete(const SchedulerConfig& config);
std::unique_ptr<Scheduler> make_heun_discrete(const SchedulerConfig& config);
std::unique_ptr<Scheduler> make_kdpm2_ancestral_discrete(const SchedulerConfig& config);
std::unique_ptr<Scheduler> make_kdpm2_discrete(const SchedulerConfig& config);
std::unique_ptr<Scheduler> make_lcm(const SchedulerConfig& config);
std::unique_ptr<Scheduler> make_lms_discrete(const SchedulerConfig& config);
std::unique_ptr<Scheduler> make_pndm(const SchedulerConfig& config);
std::unique_ptr<Scheduler> make_tcd(const SchedulerConfig& config);
std::unique_ptr<Scheduler> make_unipc_multistep(const SchedulerConfig& config);

}  // namespace darkroom::engine
