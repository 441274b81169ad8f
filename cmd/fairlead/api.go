package main

import (
	"log/slog"

	"fairlead/cmd/fairlead/internal/node"
	"fairlead/configs"
	"fairlead/controlplane/api"
	"fairlead/controlplane/logging"
)

// apiConfig is where and to whom the node answers.
func apiConfig(a *configs.API, log *slog.Logger) api.Config {
	c := api.Config{
		Socket: a.Socket, Group: a.Group, Access: api.Access{Operators: a.Operators, Readers: a.Readers}, Version: node.Version, Log: log, Audit: logging.Always(log),
	}
	if a.Listen != "" {
		c.TCP = &api.TCP{Listen: a.Listen, Cert: a.TLSCert, Key: a.TLSKey, ClientCA: a.ClientCA, Operators: a.TLSOperators, Readers: a.TLSReaders}
	}
	return c
}
