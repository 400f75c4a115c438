{{/* What all pods of the control plane have in common: Pod Security `restricted`, and placing. */}}

{{/* The beginning of a pod's spec. Args: root, component, place (the component's values). */}}
{{- define "okiba.pod" -}}
serviceAccountName: {{ include "okiba.name" .root }}-{{ .account | default .component }}
automountServiceAccountToken: {{ .token | default false }}
# Services would become variables, and those that start with OKIBA_ are ours.
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: { type: RuntimeDefault }
dnsConfig:
  # Names here are given in full: without this, each would first be looked up in four other domains.
  options: [{ name: ndots, value: "2" }]
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .place.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .place.nodeSelector }}
nodeSelector: {{ toJson . }}
{{- end }}
{{- with .place.tolerations }}
tolerations: {{ toJson . }}
{{- end }}
{{- with .place.affinity }}
affinity: {{ toJson . }}
{{- end }}
{{- end }}

{{/* How a component's pods are spread; constraints that do not say of what are of them. Args: root, component, place. */}}
{{- define "okiba.spread" -}}
{{- $own := include "okiba.selector" .root | fromYaml -}}
{{- $_ := set $own "app.kubernetes.io/component" .component -}}
{{- $usual := dict "maxSkew" 1 "topologyKey" "kubernetes.io/hostname" "whenUnsatisfiable" "ScheduleAnyway" -}}
{{- /* Pods of before an upgrade do not count, or the new ones would end where those were not. */ -}}
{{- $_ := set $usual "matchLabelKeys" (list "pod-template-hash") -}}
topologySpreadConstraints: {{ include "okiba.spreadOf" (dict "constraints" (.place.topologySpreadConstraints | default (list $usual)) "labels" $own) }}
{{- end }}

{{- define "okiba.spreadOf" -}}
{{- $complete := list -}}
{{- range .constraints -}}
{{- $complete = append $complete (merge (deepCopy .) (dict "labelSelector" (dict "matchLabels" $.labels))) -}}
{{- end -}}
{{- toJson $complete -}}
{{- end }}

{{/* A pod template's metadata. Args: root, component, place. */}}
{{- define "okiba.podMetadata" -}}
labels:
  {{- include "okiba.labels" .root | nindent 2 }}
  app.kubernetes.io/component: {{ .component }}
  {{- with .place.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
annotations:
  okiba.dev/store: {{ include "okiba.storeChecksum" .root | quote }}
  {{- with .place.podAnnotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{/* Changes when what the generated Secret is made of does, so that pods are replaced. It may hold passwords and can be
read by more people than Secrets can: hence a slow hash (scrypt). */}}
{{- define "okiba.storeChecksum" -}}
{{- $given := list .Values.redis.external.url .Values.s3.external.accessKey .Values.s3.external.secretKey -}}
{{- if without $given "" -}}
{{ derivePassword 1 "long" (toJson $given) "okiba" "store" | sha256sum | trunc 12 }}
{{- else -}}
generated
{{- end -}}
{{- end }}

{{- define "okiba.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: { drop: [ALL] }
{{- end }}

{{/* A container of the control plane's image. Args: root, name, command (a list), alone (no other object of the chart is
there any more). */}}
{{- define "okiba.container" -}}
name: {{ .name }}
image: {{ include "okiba.controlPlaneImage" .root | quote }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
command: {{ toJson .command }}
{{ include "okiba.containerSecurity" . }}
volumeMounts:
  - { name: scratch, mountPath: /tmp, subPath: tmp }
  - { name: scratch, mountPath: /var/lib/okiba, subPath: state }
  {{- if and (include "okiba.ca" .root) (not .alone) }}
  - { name: ca, mountPath: /etc/okiba/ca, readOnly: true }
  {{- end }}
  {{- range .mounts }}
  - {{ toJson . }}
  {{- end }}
{{- end }}

{{/* The volumes of such containers. Args: root, size. */}}
{{- define "okiba.volumes" -}}
- name: scratch
  emptyDir: { sizeLimit: {{ .size }} }
{{- if include "okiba.ca" .root }}
- name: ca
  configMap: { name: {{ include "okiba.ca" .root }} }
{{- end }}
{{- end }}
