"""FirstTune's library: everything the pages do, usable without a browser."""
