// A schedule's regions as whoever runs them wants them.
#pragma once
#include "seqvae/graph/scan.hpp"

namespace seqvae {

/// Says of each node which region it is in.
void number_regions(Schedule& schedule);

/// Carries read the step beside: before any node of their own step is computed.
void put_carries_first(Scan& scan);

/// Sinks become the last region, so that they run as one. \return whether there are any
bool put_gradients_last(Scan& scan);

/// Products outside of loops become regions that run at once: as soon as what they read is there,
/// and all else that could run has.
void group_products(Scan& scan);

}  // namespace seqvae
