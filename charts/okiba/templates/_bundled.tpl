{{/* A bundled server's volume: as a StatefulSet's claim, or an emptyDir. Args: persistence. */}}
{{- define "okiba.claim" -}}
{{- if .enabled -}}
volumeClaimTemplates:
  - metadata: { name: data }
    spec:
      accessModes: [ReadWriteOnce]
      {{- with .storageClassName }}
      storageClassName: {{ . }}
      {{- end }}
      resources: { requests: { storage: {{ .size }} } }
{{- end -}}
{{- end }}

{{- define "okiba.bundledVolumes" -}}
- { name: tmp, emptyDir: { sizeLimit: 256Mi } }
{{- if not .enabled }}
- { name: data, emptyDir: { sizeLimit: {{ .size }} } }
{{- end }}
{{- end }}
