#define DARKROOM_ISA amx
#include "engine/backend/cpu/kernels.inc"
