// Command coredns is CoreDNS with the plugins that a cluster's names need: a fifth of the packages of the whole.
package main

import (
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/forward"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/ready"
)

// In the order in which CoreDNS's own plugin.cfg has them: a question passes through them so.
func init() {
	dnsserver.Directives = []string{"health", "ready", "errors", "cache", "kubernetes", "forward"}
}

func main() {
	coremain.Run()
}
