// SIGINT and SIGTERM ask the work to stop; a second one ends the program at once.
#pragma once

namespace seqvae::app {

void catch_signals();
/// The signal that came, or 0.
int signal_received();
/// \throws Interrupted where one came.
void stop_if_asked();

}  // namespace seqvae::app
