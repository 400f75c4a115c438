// Command kubernetes is Kubernetes and etcd as one program: one build makes a cluster's every part.
//
// The first argument names the part to be; the rest is that part's own command line.
package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	_ "time/tzdata" // CronJobs name time zones

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

var parts = map[string]func() *cobra.Command{
	"kube-apiserver":          apiserver.NewAPIServerCommand,
	"kube-controller-manager": controllers.NewControllerManagerCommand,
	"kube-proxy":              proxy.NewProxyCommand,
	"kube-scheduler":          func() *cobra.Command { return scheduler.NewSchedulerCommand() },
	"kubelet":                 func() *cobra.Command { return kubelet.NewKubeletCommand(context.Background()) },
}

func main() {
	name := strings.Join(os.Args[min(1, len(os.Args)):min(2, len(os.Args))], "")
	if name == "etcd" {
		etcdmain.Main(os.Args[1:])
		return
	}
	part, known := parts[name]
	if !known {
		fmt.Fprintf(os.Stderr, "%q is no part of Kubernetes here; one of: etcd, %s\n", name, partNames())
		os.Exit(2)
	}
	os.Args = os.Args[1:] // Cobra and Kubernetes' flags read the process's own arguments
	os.Exit(cli.Run(part()))
}

func partNames() string {
	names := make([]string, 0, len(parts))
	for name := range parts {
		names = append(names, name)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}
